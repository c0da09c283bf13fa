# The rules in this file run before any measurement, so that a wrong path or a damaged file is
# noticed in the first minute. On a single machine a measurement needs all cores and waits for them.


# download needs the internet, which compute nodes often lack; folds takes seconds
localrules:
    download,
    folds,


rule download:
    output:
        raw=directory(f"{WORK}/raw"),
    log:
        f"{RESULTS}/logs/download.log",
    priority: 20
    resources:
        runtime=720,
    params:
        settings=study.settings("download"),
        source=source,
    shell:
        "lunet download --settings {params.settings:q} --out {output.raw:q} > {log:q} 2>&1"


rule audit:
    input:
        raw=rules.download.output.raw,
    output:
        findings=f"{RESULTS}/audit/findings.csv",
        summary=f"{RESULTS}/audit/summary.json",
        page=f"{RESULTS}/audit/audit.html",
    log:
        f"{RESULTS}/logs/audit.log",
    priority: 20
    params:
        settings=study.settings("audit"),
        code=study.code("audit"),
        folder=folder,
    shell:
        "lunet audit {input.raw:q} --settings {params.settings:q} --code {params.code:q}"
        " --out {params.folder:q} > {log:q} 2>&1"


rule plan:
    input:
        raw=rules.download.output.raw,
        audit=rules.audit.output.summary,
    output:
        plan=f"{RESULTS}/plan.yaml",
    log:
        f"{RESULTS}/logs/plan.log",
    priority: 20
    resources:
        gpu=1,
    params:
        settings=study.settings("plan"),
        code=study.code("plan"),
    shell:
        "lunet plan {input.raw:q} --settings {params.settings:q} --code {params.code:q}"
        " --out {output.plan:q} > {log:q} 2>&1"


# with `plan: auto` the plan is an input of every rule that its values affect
PLAN = rules.plan.output if study.config.plan == "auto" else []
PLANNED = f" --plan {quote(PLAN[0])}" if PLAN else ""


rule preprocess:
    input:
        PLAN,
        raw=rules.download.output.raw,
        audit=rules.audit.output.summary,
    output:
        manifest=f"{WORK}/prepared/manifest.json",
        images=directory(f"{WORK}/prepared/images"),
        labels=directory(f"{WORK}/prepared/labels"),
    log:
        f"{RESULTS}/logs/preprocess.log",
    priority: 20
    params:
        plan=PLANNED,
        settings=study.settings("preprocess"),
        code=study.code("preprocess"),
        folder=folder,
    shell:
        "lunet preprocess {input.raw:q} --settings {params.settings:q} --code {params.code:q}"
        " --out {params.folder:q}{params.plan} > {log:q} 2>&1"


# `tee`, so that warnings about what the study cannot resolve are visible, not only in the log
rule folds:
    input:
        manifest=rules.preprocess.output.manifest,
    output:
        splits=f"{RESULTS}/splits.json",
    log:
        f"{RESULTS}/logs/folds.log",
    priority: 20
    params:
        settings=study.settings("folds"),
        code=study.code("folds"),
    shell:
        "lunet folds --settings {params.settings:q} --code {params.code:q}"
        " --manifest {input.manifest:q} --out {output.splits:q} 2>&1 | tee {log:q}"
