from lunet.study.forecast import Forecasts
from lunet.study.protocol import hand_over, known_warnings

GIVEN = Forecasts(study, logger.warning)
# jobs read it, no rule names it: what a study states must train nothing again
hand_over(study)
if workflow.is_main_process:
    for line in known_warnings(study):
        logger.warning(f"{study.name}: {line}")


# the first training of a study writes its protocol, which is never replaced and is no input: what
# changes in it later must train nothing again
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
        mem_mb=GIVEN.mem_mb,
        runtime=GIVEN.runtime,
    params:
        plan=PLANNED,
        settings=study.settings("train"),
        code=study.code("train"),
        state=training_state,
        folder=folder,
    shell:
        f"lunet train --protocol {quote(RESULTS)}/protocol.json"
        " --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --work {params.state:q} --out {params.folder:q}{params.plan} > {log:q} 2>&1"
