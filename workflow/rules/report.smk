include: "smallest.smk"


from pathlib import Path

from lunet.reporting.outputs import FIGURES, TABLES
from lunet.study.brief import be_brief
from lunet.study.ending import Ending, failed_jobs
from lunet.study.outputs import caption_of, sources_of
from lunet.training.kept_results import forget

GRID = (
    f"--folds {' '.join(map(str, study.config.folds))}"
    f" --seeds {' '.join(map(str, study.config.seeds))}"
    f"{' --external ' + ' '.join(map(quote, study.external)) if study.external else ''}"
)


localrules:
    all,
    tables,
    figures,
    efficiency,
    summary,
    table,
    figure,
    examples,
    side_by_side,
    report,


rule summary:
    input:
        study.files_of("metrics", "runs", "efficiency"),
        floor=study.floor,
    output:
        multiext(
            f"{RESULTS}/presets/{{preset}}/summary", ".csv", ".md", ".tex", ".json"
        ),
    log:
        f"{RESULTS}/logs/{{preset}}/summary.log",
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=3),
        settings=study.settings("table"),
        code=study.code("table"),
        base=base,
        floor=floor_option,
    shell:
        "lunet table summary --results {params.results:q} {params.grid} --presets {wildcards.preset:q}"
        "{params.floor} --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule table:
    input:
        sources_of(study, TABLES),
    output:
        report(
            f"{RESULTS}/tables/{{name}}.csv",
            caption="../report/output.rst",
            category="Tables",
            labels={"table": "{name}"},
        ),
        multiext(f"{RESULTS}/tables/{{name}}", ".md", ".tex", ".json"),
    log:
        f"{RESULTS}/logs/tables/{{name}}.log",
    wildcard_constraints:
        name="|".join(study.tables),
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=2),
        settings=study.settings("table"),
        code=study.code("table"),
        base=base,
        caption=caption_of(TABLES),
        rows=list(study.rows),
        manifest=manifest_option,
    shell:
        "lunet table {wildcards.name:q} --results {params.results:q} {params.grid} --presets {params.rows:q}"
        "{params.manifest}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule figure:
    input:
        sources_of(study, FIGURES),
    output:
        report(
            f"{RESULTS}/figures/{{name}}.svg",
            caption="../report/output.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        multiext(f"{RESULTS}/figures/{{name}}", ".pdf", ".png", ".csv"),
    log:
        f"{RESULTS}/logs/figures/{{name}}.log",
    wildcard_constraints:
        name="|".join(study.figures),
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=2),
        settings=study.settings("figure"),
        code=study.code("figure"),
        base=base,
        caption=caption_of(FIGURES),
        rows=list(study.rows),
    shell:
        "lunet figure {wildcards.name:q} --results {params.results:q} {params.grid} --presets {params.rows:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule examples:
    input:
        study.examples_of,
        manifest=rules.preprocess.output.manifest,
    output:
        report(
            f"{RESULTS}/presets/{{preset}}/examples.png",
            caption="../report/output.rst",
            category="Examples",
            labels={"preset": "{preset}"},
        ),
        multiext(f"{RESULTS}/presets/{{preset}}/examples", ".pdf", ".svg", ".csv"),
    log:
        f"{RESULTS}/logs/{{preset}}/examples.log",
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=3),
        settings=study.settings("figure"),
        code=study.code("figure"),
        base=base,
        caption=caption_of(FIGURES, "examples"),
    shell:
        "lunet figure examples --results {params.results:q} {params.grid} --presets {wildcards.preset:q}"
        " --manifest {input.manifest:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule side_by_side:
    input:
        study.files(("metrics",)),
        [f"{run}/predictions" for run in study.runs()],
        manifest=rules.preprocess.output.manifest,
    output:
        report(
            f"{RESULTS}/figures/side_by_side.png",
            caption="../report/output.rst",
            category="Examples",
            labels={"figure": "side_by_side"},
        ),
        multiext(f"{RESULTS}/figures/side_by_side", ".pdf", ".svg", ".csv"),
    log:
        f"{RESULTS}/logs/figures/side_by_side.log",
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=2),
        settings=study.settings("figure"),
        code=study.code("figure"),
        base=base,
        caption=caption_of(FIGURES, "side_by_side"),
        rows=list(study.rows),
    shell:
        "lunet figure side_by_side --results {params.results:q} {params.grid} --presets {params.rows:q}"
        " --manifest {input.manifest:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {params.base:q}"
        " > {log:q} 2>&1"


rule tables:
    input:
        expand(
            f"{RESULTS}/tables/{{name}}.{{suffix}}",
            name=study.tables,
            suffix=("csv", "json"),
        ),
        expand(f"{RESULTS}/presets/{{preset}}/summary.csv", preset=study.rows),


rule figures:
    input:
        expand(f"{RESULTS}/figures/{{name}}.svg", name=study.figures),
        expand(f"{RESULTS}/presets/{{preset}}/examples.png", preset=study.rows),
        expand(f"{RESULTS}/presets/{{preset}}/architecture.svg", preset=study.presets),
        rules.side_by_side.output,


# the report covers pruning and tests on other data sets if they are a part of the study
PRUNINGS = rules.pruning.input if study.config.prune.enabled else []
PARTS = " --pruning" if study.config.prune.enabled else ""
if study.config.transfer:
    PARTS += f" --targets {' '.join(map(quote, study.config.transfer))}"


rule report:
    input:
        rules.tables.input,
        rules.figures.input,
        rules.transfers.input,
        PRUNINGS,
        ANSWERED,
        summary=rules.audit.output.summary,
        manifest=rules.preprocess.output.manifest,
    output:
        page=f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    params:
        grid=GRID,
        results=subpath(output[0], ancestor=1),
        settings=study.settings("report"),
        code=study.code("report"),
        rows=list(study.rows),
        parts=PARTS,
    shell:
        "lunet report --results {params.results:q} {params.grid} --presets {params.rows:q}{params.parts}"
        " --manifest {input.manifest:q}"
        " --settings {params.settings:q} --code {params.code:q} --out {output.page:q}"
        " > {log:q} 2>&1"


ENDING = Ending(study)
if workflow.is_main_process:
    be_brief(logger, sys.argv[1:])


# whoever removes results after this to train them again shall not get the ones that were kept
onsuccess:
    forget(Path(study.work), Path(study.results))
    for line in ENDING.answer():
        logger.info(line)


onerror:
    forget(Path(study.work), Path(study.results), may_run=True)
    for line in failed_jobs(log):
        logger.error(line)
