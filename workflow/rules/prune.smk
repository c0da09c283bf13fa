from lunet.reporting.outputs import FIGURES, TABLES, made_by
from lunet.study.outputs import caption_of, compared_with_pruned, pruned

PRUNED = f"{RESULTS}/pruning/{{preset}}/{{strategy}}/fold-{{fold}}/seed-{{seed}}"
PRUNE_LOGS = (
    f"{RESULTS}/logs/pruning/{{preset}}/{{strategy}}/fold-{{fold}}/seed-{{seed}}"
)
PRUNING_TABLES = made_by(TABLES, "pruning_table")
PRUNING_FIGURES = made_by(FIGURES, "pruning_figure")


localrules:
    pruning,
    pruning_table,
    pruning_figure,


rule prune:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        multiext(f"{PRUNED}/", "weights.safetensors", "last.safetensors"),
        multiext(f"{PRUNED}/", "trajectory.csv", "test_curve.csv", "history.csv"),
        record=f"{PRUNED}/run.json",
    log:
        f"{PRUNE_LOGS}/prune.log",
    benchmark:
        f"{PRUNE_LOGS}/prune.benchmark.tsv"
    wildcard_constraints:
        strategy="stamp|random_at_stamp_layer|largest_layer",
    resources:
        gpu=1,
    params:
        plan=PLANNED,
        settings=study.settings("prune"),
        code=study.code("prune"),
        state=pruning_state,
        folder=folder,
        like="",
    shell:
        "lunet prune --settings {params.settings:q} --code {params.code:q}"
        " --strategy {wildcards.strategy:q}{params.like}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --work {params.state:q} --out {params.folder:q} --keep-results{params.plan}"
        " > {log:q} 2>&1"


# a control trains for as many epochs as the stamp run, so the record of that run is an input
use rule prune as prune_control with:
    input:
        PLAN,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
        like=f"{RESULTS}/pruning/{{preset}}/stamp/fold-{{fold}}/seed-{{seed}}/run.json",
    wildcard_constraints:
        strategy="scratch|flat",
    params:
        like=lambda wildcards, input: f" --like {quote(input.like)}",


use rule predict as prune_predict with:
    input:
        PLAN,
        weights=f"{PRUNED}/weights.safetensors",
        last=f"{PRUNED}/last.safetensors",
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        predictions=directory(f"{PRUNED}/predictions"),
    log:
        f"{PRUNE_LOGS}/predict.log",


rule prune_evaluate:
    input:
        predictions=rules.prune_predict.output.predictions,
        manifest=rules.preprocess.output.manifest,
        splits=rules.folds.output.splits,
    output:
        metrics=f"{PRUNED}/metrics.csv",
    log:
        f"{PRUNE_LOGS}/evaluate.log",
    params:
        settings=study.settings("evaluate"),
        code=study.code("evaluate"),
    shell:
        "lunet evaluate --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --splits {input.splits:q}"
        " --predictions {input.predictions:q}"
        " --preset {wildcards.preset:q}_{wildcards.strategy:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --out {output.metrics:q} > {log:q} 2>&1"


rule pruning_table:
    input:
        pruned(study, "run.json"),
        compared=compared_with_pruned(study),
        trajectories=pruned(study, "trajectory.csv"),
        metrics=pruned(study, "metrics.csv"),
    output:
        report(
            f"{RESULTS}/tables/{{name}}.csv",
            caption="../report/output.rst",
            category="Pruning",
            labels={"table": "{name}"},
        ),
        multiext(f"{RESULTS}/tables/{{name}}", ".md", ".tex", ".json"),
    log:
        f"{RESULTS}/logs/tables/{{name}}.log",
    wildcard_constraints:
        name="|".join(PRUNING_TABLES),
    params:
        settings=study.settings("prune_table"),
        code=study.code("prune_table"),
        caption=caption_of(TABLES),
        base=base,
    shell:
        "lunet table {wildcards.name:q}"
        " --inputs {input.trajectories:q} {input.metrics:q} {input.compared:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule pruning_figure:
    input:
        pruned(study, "run.json"),
        compared=compared_with_pruned(study),
        trajectories=pruned(study, "trajectory.csv"),
        metrics=pruned(study, "metrics.csv"),
    output:
        report(
            f"{RESULTS}/figures/{{name}}.svg",
            caption="../report/output.rst",
            category="Pruning",
            labels={"figure": "{name}"},
        ),
        multiext(f"{RESULTS}/figures/{{name}}", ".pdf", ".png", ".csv"),
    log:
        f"{RESULTS}/logs/figures/{{name}}.log",
    wildcard_constraints:
        name="|".join(PRUNING_FIGURES),
    params:
        settings=study.settings("prune_figure"),
        code=study.code("prune_figure"),
        caption=caption_of(FIGURES),
        base=base,
    shell:
        "lunet figure {wildcards.name:q}"
        " --inputs {input.trajectories:q} {input.metrics:q} {input.compared:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule pruning:
    input:
        expand(
            f"{RESULTS}/tables/{{name}}.{{suffix}}",
            name=PRUNING_TABLES,
            suffix=("csv", "json"),
        ),
        expand(f"{RESULTS}/figures/{{name}}.svg", name=PRUNING_FIGURES),
