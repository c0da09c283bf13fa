"""The steps of a study: the sections of the configuration and the modules that each depends on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What a step depends on: a change of any of it runs the step again.

    Attributes
    ----------
    sections
        Parts of the configuration that it reads.
    modules
        Modules whose import closure is its code. ``lunet.commands`` is left out on purpose, because
        it only parses arguments.
    templates
        Templates of its page. The audit lists none on purpose: trainings depend on the audit, and a
        change of its page's look must not prepare and train everything again.
    builds_model
        Whether the step depends on the preset's model module.
    """

    sections: tuple[str, ...]
    modules: tuple[str, ...]
    builds_model: bool = False
    templates: tuple[str, ...] = ()


STEPS = {
    # no code: an edit of the downloader must not download terabytes again
    "download": Step(("dataset", "task"), ()),
    "audit": Step(("dataset", "task", "crop"), ("lunet.data.audit.audit",)),
    # without the networks' code: editing a network must not prepare all volumes again
    "plan": Step(
        ("dataset", "task", "models", "planning"), ("lunet.data.plan", "lunet.efficiency.step_cost")
    ),
    "preprocess": Step(("dataset", "task", "preprocess"), ("lunet.data.prepare",)),
    "folds": Step(("split",), ("lunet.data.custom_splits",)),
    # jobs get these sections through the environment, not as parameters (lunet.study.protocol)
    "register": Step(
        (
            "dataset",
            "task",
            "preprocess",
            "split",
            "networks",
            "predict",
            "evaluate",
            "grid",
            "statistics",
            "external",
        ),
        (),
    ),
    "train": Step(("task", "model", "recipe"), ("lunet.training.run",), builds_model=True),
    # the same code; more epochs (another setting of the recipe) keep the arithmetic
    "engine": Step(("task", "model", "recipe"), ("lunet.training.run",), builds_model=True),
    "predict": Step(
        ("task", "model", "predict"), ("lunet.inference.predict_run",), builds_model=True
    ),
    "prior": Step(("task",), ("lunet.inference.prior",)),
    "evaluate": Step(("task", "evaluate"), ("lunet.evaluation.evaluation",)),
    "external": Step(("task", "external"), ("lunet.evaluation.external",)),
    "external_cost": Step(("external_cost",), ("lunet.evaluation.external_cost",)),
    "rival_export": Step((), ("lunet.exchange.nnunet_export",)),
    "rival_plan": Step(
        ("rival_network",),
        ("lunet.exchange.rival",),
        templates=("nnunet_rival.py", "mist_rival.py"),
    ),
    "rival_train": Step(
        ("rival",), ("lunet.exchange.rival",), templates=("nnunet_rival.py", "mist_rival.py")
    ),
    "rival_cost": Step(
        ("rival_network", "efficiency"),
        ("lunet.exchange.rival_cost",),
        templates=("rival_cost.py",),
    ),
    "transfer": Step(
        ("model", "predict", "evaluate"), ("lunet.evaluation.transfer",), builds_model=True
    ),
    "lesions": Step(("lesions",), ("lunet.evaluation.lesions",)),
    # of the recipe only what a step of training depends on: costs do not depend on the rest
    "efficiency": Step(
        ("task", "model", "training_step", "efficiency"),
        # the fresh processes are started, not imported
        ("lunet.efficiency.run", "lunet.efficiency.measure", "lunet.efficiency.training_engine"),
        builds_model=True,
    ),
    "table": Step(("statistics", "report"), ("lunet.reporting.tables.index",)),
    "figure": Step(("statistics", "report"), ("lunet.reporting.figures.index",)),
    "architecture": Step(
        ("task", "model"), ("lunet.reporting.figures.architecture",), builds_model=True
    ),
    "report": Step(
        ("statistics", "report", "pilot"),
        ("lunet.reporting.html.report",),
        templates=("report.html",),
    ),
    "prune_table": Step(("statistics", "report"), ("lunet.reporting.tables.pruning",)),
    "prune_figure": Step(("statistics", "report"), ("lunet.reporting.figures.pruning",)),
    "prune": Step(("task", "model", "recipe", "prune"), ("lunet.pruning.run",), builds_model=True),
}
