# Log what the design can resolve according to its pilot, and give the report the answer of a search.
# `lunet smallest` runs the search; it requests ordinary runs from this workflow.

from lunet.study.power import power_sentence
from lunet.study.smallest import pause_epoch

if study.config.pilot is not None and workflow.is_main_process:
    try:
        logger.info(power_sentence(study))
    except LunetError as error:
        raise WorkflowError(str(error)) from None

# no rule makes the answer of a search; if there is one, the report begins with it
VERDICT = f"{RESULTS}/smallest/verdict.json"
ANSWERED = [VERDICT] if os.path.isfile(VERDICT) else []


# the same training as rule `train`, which resumes from the state that this one leaves
rule pause:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
        engine=engine_file,
    output:
        f"{RESULTS}/smallest/paused/{{preset}}/fold-{{fold}}/seed-{{seed}}.json",
    log:
        f"{LOGS}/pause.log",
    wildcard_constraints:
        preset=TRAINED,
    resources:
        gpu=1,
        mem_mb=FORECASTS.mem_mb,
        runtime=FORECASTS.runtime,
    params:
        plan=PLANNED,
        engine=engine_option,
        settings=study.settings("train"),
        code=study.code("train"),
        state=training_state,
        protocol=protocol,
        run=lambda wildcards: study.run(**wildcards),
        epoch=lambda wildcards: pause_epoch(study.resolved(wildcards.preset)[1]),
    shell:
        "lunet train --protocol {params.protocol:q}"
        " --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --work {params.state:q} --out {params.run:q}{params.plan}{params.engine}"
        " --pause-after {params.epoch:q} --pause-file {output:q} > {log:q} 2>&1"
