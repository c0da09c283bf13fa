# Rows whose predictions were made elsewhere. They are taken as runs with seed 0; from there on they
# are evaluated, compared and drawn like the presets.

from lunet.study.external import external_digest


localrules:
    external_cost,


rule external:
    input:
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        predictions=directory(
            f"{RESULTS}/runs/{{preset}}/fold-{{fold}}/seed-0/predictions"
        ),
        record=f"{RESULTS}/runs/{{preset}}/fold-{{fold}}/seed-0/run.json",
    log:
        f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-0/external.log",
    wildcard_constraints:
        preset=EXTERNAL,
    params:
        settings=study.settings("external"),
        code=study.code("external"),
        source=external_digest(study, rules.folds.output.splits),
        predictions=predictions_option,
    shell:
        "lunet external --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --preset {wildcards.preset:q} --fold {wildcards.fold:q}"
        " --out {output.predictions:q}{params.predictions} > {log:q} 2>&1"


# the costs that the configuration states; nothing is measured
rule external_cost:
    output:
        efficiency=f"{RESULTS}/presets/{{preset}}/efficiency.json",
    log:
        f"{RESULTS}/logs/{{preset}}/external_cost.log",
    wildcard_constraints:
        preset=EXTERNAL,
    params:
        settings=study.settings("external_cost"),
        code=study.code("external_cost"),
    shell:
        "lunet external --settings {params.settings:q} --code {params.code:q}"
        " --preset {wildcards.preset:q} --out {output.efficiency:q} > {log:q} 2>&1"


# rows whose predictions this study has made by another package
include: "rivals.smk"
