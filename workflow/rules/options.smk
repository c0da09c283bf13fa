# Inputs and options that a rule has only under a condition, and the folder that studies share.

import re


def one_of(names):
    """A pattern that matches each of the names, and nothing if there are none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


def engine_file(wildcards):
    """Input: the arithmetic of the preset, if its recipe leaves it open."""
    is_open = study.resolved(wildcards.preset)[1].engine.is_open
    return rules.engine.output.engine if is_open else []


def engine_option(wildcards, input):
    """Parameter: the option `--engine`."""
    return f" --engine {quote(input.engine)}" if input.engine else ""


def one_run(wildcards, output):
    """Parameter: the options of a training in a job of its own."""
    return f" --fold {wildcards.fold} --seed {wildcards.seed} --keep-results"


def all_folds(wildcards, output):
    """Parameter: the options of a job that trains all folds, each with a log of its own."""
    folds = " ".join(map(str, study.folds))
    seeds = [wildcards.seed] if hasattr(wildcards, "seed") else study.config.seeds
    logs = f"{_above_folds(output)}/../../logs/{wildcards.preset}"
    return (
        f" --fold {folds} --seed {' '.join(map(str, seeds))}"
        f" --at-once {FORECASTS.at_once(len(seeds))}"
        f" --keep-results --logs {quote(os.path.normpath(logs))}"
    )


def prediction_minutes(wildcards, input, attempt):
    """Resource: less for a prediction that the job of the training makes ahead."""
    run = f"{wildcards.preset}/fold-{wildcards.fold}/seed-{wildcards.seed}/"
    if re.match(rf"{PRESETS_TOGETHER}|{FOLDS_TOGETHER}", run):
        return FORECASTS.runtime_ahead(input, attempt)
    return PREDICT_MINUTES * attempt


def folder_of_runs(wildcards, output):
    """Parameter: the folder that holds the folders of the folds."""
    return _above_folds(output)


def _above_folds(output):
    return os.path.dirname(os.path.dirname(os.path.dirname(output[0])))


def state_of_runs(wildcards, input):
    """Parameter: the folder that holds the folders of the folds with their resume states."""
    work = os.path.dirname(os.path.dirname(input.manifest))
    return os.path.join(work, "runs", wildcards.preset)


def kept_measurements(wildcards, output):
    """Parameter: the folder of measurements that all studies with the same `roots` share."""
    own = f"{RESULTS}/presets/{wildcards.preset}/efficiency.json"
    return f"{output[0].removesuffix(own)}{study.config.roots.work}/_measured"


def floor_option(wildcards, input):
    """Parameter: the option `--floor`, if the study has the atlas prior."""
    return f" --floor {' '.join(map(quote, input.floor))}" if input.floor else ""


def manifest_option(wildcards, input):
    """Parameter: the option `--manifest`, for tables that need the manifest."""
    found = [path for path in input if os.path.basename(path) == "manifest.json"]
    return f" --manifest {quote(found[0])}" if found else ""


def predictions_option(wildcards, input):
    """Parameter: the option `--predictions`, if the study makes the predictions of the row."""
    made = input.get("predictions")
    return f" --predictions {quote(made)}" if made else ""


def rival_state(wildcards, input):
    """Parameter: the folder of nnU-Net's checkpoints, next to its preprocessed volumes."""
    return os.path.join(os.path.dirname(input.plan), f"fold-{wildcards.fold}")
