from lunet.study.forecast import Forecasts

FORECASTS = Forecasts(study, logger.warning)


# the first training of a study writes its protocol, which is never replaced; it is not an input,
# because a later change of the study's statements must not train anything again
rule train:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        weights=f"{RUN}/weights.safetensors",
        last=f"{RUN}/last.safetensors",
        history=f"{RUN}/history.csv",
        record=f"{RUN}/run.json",
    log:
        f"{LOGS}/train.log",
    benchmark:
        f"{LOGS}/train.benchmark.tsv"
    wildcard_constraints:
        preset=TRAINED,
    resources:
        gpu=1,
        mem_mb=FORECASTS.mem_mb,
        runtime=FORECASTS.runtime,
    params:
        plan=PLANNED,
        settings=study.settings("train"),
        code=study.code("train"),
        state=training_state,
        protocol=protocol,
        folder=folder,
    shell:
        "lunet train --protocol {params.protocol:q}"
        " --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --work {params.state:q} --out {params.folder:q}{params.plan} > {log:q} 2>&1"
