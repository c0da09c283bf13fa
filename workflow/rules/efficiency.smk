rule measure:
    input:
        PLAN,
    output:
        efficiency=f"{RESULTS}/presets/{{preset}}/efficiency.json",
    log:
        f"{RESULTS}/logs/{{preset}}/efficiency.log",
    benchmark:
        f"{RESULTS}/logs/{{preset}}/efficiency.benchmark.tsv"
    wildcard_constraints:
        preset=TRAINED,
    # before the trainings, because it decides how much memory and time they request
    priority: 10
    resources:
        gpu=1,
    params:
        plan=PLANNED,
        settings=study.settings("efficiency"),
        code=study.code("efficiency"),
        keep=kept_measurements,
    shell:
        "lunet efficiency --settings {params.settings:q} --code {params.code:q}"
        " --keep {params.keep:q} --out {output.efficiency:q}{params.plan} > {log:q} 2>&1"


rule efficiency:
    input:
        expand(rules.measure.output.efficiency, preset=study.presets),
