rule predict:
    input:
        PLAN,
        weights=rules.train.output.weights,
        last=rules.train.output.last,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        predictions=directory(f"{RUN}/predictions"),
    log:
        f"{LOGS}/predict.log",
    wildcard_constraints:
        preset=TRAINED,
    resources:
        gpu=1,
        runtime=prediction_minutes,
    params:
        plan=PLANNED,
        settings=study.settings("predict"),
        code=study.code("predict"),
        folder=run_folder,
        ahead=training_state,
    shell:
        "lunet predict --settings {params.settings:q} --code {params.code:q}"
        " --weights {params.folder:q} --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --ahead {params.ahead:q}"
        " --out {output.predictions:q}{params.plan} > {log:q} 2>&1"


rule prior:
    input:
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        predictions=directory(
            f"{RESULTS}/runs/atlas_prior/fold-{{fold}}/seed-0/predictions"
        ),
    log:
        f"{RESULTS}/logs/atlas_prior/fold-{{fold}}/seed-0/predict.log",
    params:
        settings=study.settings("prior"),
        code=study.code("prior"),
    shell:
        "lunet predict --prior --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --out {output.predictions:q} > {log:q} 2>&1"


rule evaluate:
    input:
        predictions=f"{RUN}/predictions",
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        metrics=f"{RUN}/metrics.csv",
    log:
        f"{LOGS}/evaluate.log",
    wildcard_constraints:
        preset=rf"(?!{PRESETS_TOGETHER})[^/]+",
    params:
        settings=study.settings("evaluate"),
        code=study.code("evaluate"),
    shell:
        "lunet evaluate --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --predictions {input.predictions:q}"
        " --preset {wildcards.preset:q} --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --out {output.metrics:q} > {log:q} 2>&1"


# one submission evaluates all runs of a preset that one job has trained
use rule evaluate as evaluate_preset with:
    wildcard_constraints:
        preset=rf"(?={PRESETS_TOGETHER})[^/]+",


rule lesions:
    input:
        predictions=f"{RUN}/predictions",
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        lesions=f"{RUN}/lesions.csv",
        froc=f"{RUN}/froc.csv",
    log:
        f"{LOGS}/lesions.log",
    wildcard_constraints:
        preset=TRAINED,
    params:
        settings=study.settings("lesions"),
        code=study.code("lesions"),
    shell:
        "lunet lesions --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --predictions {input.predictions:q}"
        " --preset {wildcards.preset:q} --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --out {output.lesions:q} --froc {output.froc:q} > {log:q} 2>&1"
