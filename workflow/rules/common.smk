# Paths and the few functions that rules share; everything else is in lunet.study.

RESULTS = study.results
WORK = study.work
RUN = f"{RESULTS}/runs/{{preset}}/fold-{{fold}}/seed-{{seed}}"
LOGS = f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-{{seed}}"


wildcard_constraints:
    preset=r"[^/]+",
    fold=r"\d+",
    seed=r"\d+",
    name=r"[^/]+",
