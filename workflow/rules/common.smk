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


def runs_of(name):
    """Input function: one file of every run of the preset in the wildcards."""

    def of(wildcards):
        return [f"{run}/{name}" for run in study.runs(wildcards.preset)]

    return of


def all_runs(name, presets):
    """One file of every run of the given rows of the study."""
    return [f"{run}/{name}" for run in study.runs(*presets)]
