from lunet.reporting.outputs import FIGURES, TABLES, of_targets
from lunet.study.outputs import caption_of
from lunet.study.transfer import table_settings, target_files, target_settings

TRANSFER_TABLES, TRANSFER_FIGURES = of_targets(TABLES), of_targets(FIGURES)
TARGET = f"{RESULTS}/transfer/{{target}}"
TARGET_RUN = f"{TARGET}/runs/{{preset}}/fold-{{fold}}/seed-{{seed}}"
TARGET_LOGS = f"{RESULTS}/logs/transfer/{{target}}"


localrules:
    transfer_download,
    transfer_table,
    transfer_figure,
    transfers,


wildcard_constraints:
    target=r"[^/]+",


use rule download as transfer_download with:
    output:
        raw=directory(f"{WORK}/transfer/{{target}}/raw"),
    log:
        f"{TARGET_LOGS}/download.log",
    params:
        settings=target_settings(study, "download"),
        source=source,


use rule audit as transfer_audit with:
    input:
        raw=rules.transfer_download.output.raw,
    output:
        findings=f"{TARGET}/audit/findings.csv",
        summary=f"{TARGET}/audit/summary.json",
        page=f"{TARGET}/audit/audit.html",
    log:
        f"{TARGET_LOGS}/audit.log",
    params:
        settings=target_settings(study, "audit"),
        code=study.code("audit"),
        folder=folder,


rule transfer:
    input:
        PLAN,
        weights=rules.train.output.weights,
        last=rules.train.output.last,
        raw=rules.transfer_download.output.raw,
        audit=rules.transfer_audit.output.summary,
    output:
        metrics=f"{TARGET_RUN}/metrics.csv",
        record=f"{TARGET_RUN}/run.json",
        predictions=directory(f"{TARGET_RUN}/predictions"),
    log:
        f"{TARGET_LOGS}/{{preset}}/fold-{{fold}}/seed-{{seed}}/transfer.log",
    wildcard_constraints:
        preset=TRAINED,
    resources:
        gpu=1,
    params:
        plan=PLANNED,
        settings=target_settings(study, "transfer"),
        code=study.code("transfer"),
        folder=run_folder,
        out=folder,
    shell:
        "lunet transfer --settings {params.settings:q} --code {params.code:q}"
        " --weights {params.folder:q} --raw {input.raw:q}"
        " --fold {wildcards.fold:q} --seed {wildcards.seed:q}"
        " --out {params.out:q}{params.plan} > {log:q} 2>&1"


rule transfer_table:
    input:
        lambda wildcards: target_files(
            study, wildcards.target, "metrics.csv", "run.json"
        ),
    output:
        report(
            f"{TARGET}/tables/{{name}}.csv",
            caption="../report/output.rst",
            category="Other data sets",
            labels={"data set": "{target}", "table": "{name}"},
        ),
        multiext(f"{TARGET}/tables/{{name}}", ".md", ".tex", ".json"),
    log:
        f"{TARGET_LOGS}/tables/{{name}}.log",
    wildcard_constraints:
        name="|".join(TRANSFER_TABLES),
    params:
        results=subpath(output[0], ancestor=2),
        folds=study.folds,
        seeds=study.config.seeds,
        settings=table_settings(study),
        code=study.code("table"),
        caption=caption_of(TABLES),
        base=base,
        rows=list(study.presets),
    shell:
        "lunet table {wildcards.name:q} --results {params.results:q} --presets {params.rows:q}"
        " --folds {params.folds:q} --seeds {params.seeds:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule transfer_figure:
    input:
        lambda wildcards: target_files(
            study, wildcards.target, "metrics.csv", "run.json"
        ),
    output:
        report(
            f"{TARGET}/figures/{{name}}.svg",
            caption="../report/output.rst",
            category="Other data sets",
            labels={"data set": "{target}", "figure": "{name}"},
        ),
        multiext(f"{TARGET}/figures/{{name}}", ".pdf", ".png", ".csv"),
    log:
        f"{TARGET_LOGS}/figures/{{name}}.log",
    wildcard_constraints:
        name="|".join(TRANSFER_FIGURES),
    params:
        results=subpath(output[0], ancestor=2),
        folds=study.folds,
        seeds=study.config.seeds,
        settings=table_settings(study),
        code=study.code("figure"),
        caption=caption_of(FIGURES),
        base=base,
        rows=list(study.presets),
    shell:
        "lunet figure {wildcards.name:q} --results {params.results:q} --presets {params.rows:q}"
        " --folds {params.folds:q} --seeds {params.seeds:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule transfers:
    input:
        expand(
            f"{TARGET}/tables/{{name}}.{{suffix}}",
            target=study.config.transfer,
            name=TRANSFER_TABLES,
            suffix=("csv", "json"),
        ),
        expand(
            f"{TARGET}/figures/{{name}}.svg",
            target=study.config.transfer,
            name=TRANSFER_FIGURES,
        ),
