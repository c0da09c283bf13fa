from lunet.study.forecast import FALLBACK_MB, PREDICT_MINUTES, Forecasts
from lunet.study.together import folds_together, presets_together

FORECASTS = Forecasts(study, logger.warning)
SEEDS = study.config.seeds
# runs in one job with all others of their preset, or with all folds of their seed; and the rest
PRESETS_TOGETHER, FOLDS_TOGETHER = presets_together(study), folds_together(study)
ALONE = rf"(?!{PRESETS_TOGETHER}|{FOLDS_TOGETHER}){TRAINED}"
FOLDS = [RUN.replace("{fold}", str(fold)) for fold in study.folds]
RUNS = [run.replace("{seed}", str(seed)) for seed in SEEDS for run in FOLDS]


# all folds and seeds of a preset are computed alike, and a seed that is added later, too
rule engine:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        engine=f"{RESULTS}/presets/{{preset}}/engine.json",
    log:
        f"{RESULTS}/logs/{{preset}}/engine.log",
    wildcard_constraints:
        preset=TRAINED,
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: attempt * FALLBACK_MB,
    params:
        plan=PLANNED,
        settings=study.settings("engine"),
        code=study.code("engine"),
        fold=study.folds[0],
    shell:
        "lunet engine --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q} --fold {params.fold:q}"
        " --out {output.engine:q}{params.plan} > {log:q} 2>&1"


# the first training of a study writes its protocol, which is never replaced; it is not an input,
# because a later change of the study's statements must not train anything again
rule train:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
        engine=engine_file,
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
        preset=ALONE,
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
        folder=folder,
        runs=one_run,
    shell:
        "lunet train --protocol {params.protocol:q}"
        " --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --work {params.state:q} --out {params.folder:q}"
        "{params.runs}{params.plan}{params.engine} > {log:q} 2>&1"


# the same runs with the same settings, code and command, so that the choice between the rules (keys
# `folds_per_job`, `seeds_per_job`) reruns nothing
use rule train as train_together with:
    output:
        weights=[f"{run}/weights.safetensors" for run in FOLDS],
        last=[f"{run}/last.safetensors" for run in FOLDS],
        history=[f"{run}/history.csv" for run in FOLDS],
        record=[f"{run}/run.json" for run in FOLDS],
    log:
        f"{RESULTS}/logs/{{preset}}/seed-{{seed}}/train.log",
    benchmark:
        f"{RESULTS}/logs/{{preset}}/seed-{{seed}}/train.benchmark.tsv"
    wildcard_constraints:
        preset=rf"(?={FOLDS_TOGETHER}){TRAINED}",
    threads: FORECASTS.at_once()
    resources:
        gpu=1,
        mem_mb=FORECASTS.mem_mb_together,
        runtime=FORECASTS.runtime_together,
    params:
        state=state_of_runs,
        folder=folder_of_runs,
        runs=all_folds,


use rule train_together as train_preset with:
    output:
        weights=[f"{run}/weights.safetensors" for run in RUNS],
        last=[f"{run}/last.safetensors" for run in RUNS],
        history=[f"{run}/history.csv" for run in RUNS],
        record=[f"{run}/run.json" for run in RUNS],
    log:
        f"{RESULTS}/logs/{{preset}}/train.log",
    benchmark:
        f"{RESULTS}/logs/{{preset}}/train.benchmark.tsv"
    wildcard_constraints:
        preset=rf"(?={PRESETS_TOGETHER}){TRAINED}",
    threads: FORECASTS.at_once(len(SEEDS))
