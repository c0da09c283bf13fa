from lunet.reporting.outputs import FIGURES
from lunet.study.outputs import caption_of


localrules:
    architecture,
    run_pictures,
    pictures,


rule architecture:
    input:
        PLAN,
    output:
        report(
            f"{RESULTS}/presets/{{preset}}/architecture.svg",
            caption="../report/output.rst",
            category="Networks",
            labels={"preset": "{preset}"},
        ),
        multiext(f"{RESULTS}/presets/{{preset}}/architecture", ".pdf", ".png", ".csv"),
    log:
        f"{RESULTS}/logs/{{preset}}/architecture.log",
    wildcard_constraints:
        preset=TRAINED,
    params:
        settings=study.settings("architecture"),
        code=study.code("architecture"),
        base=base,
        caption=caption_of(FIGURES, "architecture"),
        plan=PLANNED,
    shell:
        "lunet figure architecture --settings {params.settings:q} --code {params.code:q}"
        " --out {params.base:q}{params.plan} > {log:q} 2>&1"


# pictures of a single run; `snakemake pictures` draws them for all runs
rule run_pictures:
    input:
        history=rules.train.output.history,
        metrics=f"{RUN}/metrics.csv",
        predictions=f"{RUN}/predictions",
        manifest=rules.preprocess.output.manifest,
    output:
        curves=multiext(f"{RUN}/curves", ".svg", ".pdf", ".png", ".csv"),
        examples=multiext(f"{RUN}/examples", ".svg", ".pdf", ".png", ".csv"),
    log:
        f"{LOGS}/pictures.log",
    wildcard_constraints:
        preset=TRAINED,
    params:
        settings=study.settings("figure"),
        code=study.code("figure"),
        folder=folder,
    shell:
        "lunet figure curves --inputs {input.history:q} --out {params.folder:q}/curves"
        " --settings {params.settings:q} --code {params.code:q} > {log:q} 2>&1"
        " && lunet figure examples --inputs {input.metrics:q} --manifest {input.manifest:q}"
        " --settings {params.settings:q} --code {params.code:q}"
        " --out {params.folder:q}/examples >> {log:q} 2>&1"


rule pictures:
    input:
        [
            f"{run}/{name}.png"
            for run in study.runs(list(study.presets))
            for name in ("curves", "examples")
        ],
