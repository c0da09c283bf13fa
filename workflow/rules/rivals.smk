# Networks that nnU-Net plans, trains and predicts with, in an environment of its own. Their masks
# come back as external rows. Its checkpoints stay in the work folder.


rule rival_export:
    input:
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        raw=directory(f"{WORK}/rivals/raw"),
    log:
        f"{RESULTS}/logs/rival_export.log",
    params:
        settings=study.settings("rival_export"),
        code=study.code("rival_export"),
    shell:
        "lunet rival export --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q} --out {output.raw:q} > {log:q} 2>&1"


rule rival_plan:
    input:
        raw=rules.rival_export.output.raw,
    output:
        plan=directory(f"{WORK}/rivals/{{preset}}/preprocessed"),
    log:
        f"{RESULTS}/logs/{{preset}}/rival_plan.log",
    wildcard_constraints:
        preset=RIVALS,
    params:
        settings=study.settings("rival_plan"),
        code=study.code("rival_plan"),
    shell:
        "lunet rival plan --settings {params.settings:q} --code {params.code:q}"
        " --preset {wildcards.preset:q} --raw {input.raw:q} --out {output.plan:q} > {log:q} 2>&1"


rule rival_train:
    input:
        plan=rules.rival_plan.output.plan,
    output:
        predictions=directory(f"{RESULTS}/rivals/{{preset}}/fold-{{fold}}"),
    log:
        f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-0/rival_train.log",
    benchmark:
        f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-0/rival_train.benchmark.tsv"
    wildcard_constraints:
        preset=RIVALS,
    resources:
        gpu=1,
    params:
        settings=study.settings("rival_train"),
        code=study.code("rival_train"),
        state=rival_state,
    shell:
        "lunet rival train --settings {params.settings:q} --code {params.code:q}"
        " --preset {wildcards.preset:q} --fold {wildcards.fold:q} --plan {input.plan:q}"
        " --work {params.state:q} --out {output.predictions:q} > {log:q} 2>&1"


use rule external as rival with:
    input:
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
        predictions=rules.rival_train.output.predictions,
    log:
        f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-0/rival.log",
    wildcard_constraints:
        preset=RIVALS,
    params:
        settings=study.settings("external"),
        code=study.code("external"),
        predictions=predictions_option,


rule rival_cost:
    input:
        plan=rules.rival_plan.output.plan,
    output:
        efficiency=f"{RESULTS}/presets/{{preset}}/efficiency.json",
    log:
        f"{RESULTS}/logs/{{preset}}/rival_cost.log",
    wildcard_constraints:
        preset=RIVALS,
    priority: 10
    resources:
        gpu=1,
    params:
        settings=study.settings("rival_cost"),
        code=study.code("rival_cost"),
    shell:
        "lunet rival cost --settings {params.settings:q} --code {params.code:q}"
        " --preset {wildcards.preset:q} --plan {input.plan:q} --out {output.efficiency:q}"
        " > {log:q} 2>&1"
