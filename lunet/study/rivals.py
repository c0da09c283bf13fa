"""Rivals in a study: networks that another package trains, and that come back as external rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lunet.data.ids import file_key
from lunet.errors import ConfigError, noted, together
from lunet.evaluation.external_settings import ExternalSettings
from lunet.exchange.rival_settings import RivalSettings
from lunet.settings import plain

if TYPE_CHECKING:
    from lunet.study.config import Config
    from lunet.study.study import Study

_VARIABLE = "LUNET_RIVALS"


def row_of(rival: RivalSettings) -> ExternalSettings:
    """The external row that a rival becomes; the rules know the folder of its predictions."""
    return ExternalSettings(predictions="", layout="nnunet", source=rival.source)


def rival_faults(config: Config) -> Iterator[ConfigError]:
    """Rivals with the name of an external row."""
    taken = {file_key(name): name for name in config.external}
    for name in config.rivals:
        other = taken.get(file_key(name))
        if other is not None:
            yield ConfigError(
                where=f"rivals.{name}",
                found=f"is the name of the row external.{other}",
                expected="a rival needs a name of its own",
                action="Rename it",
            )


def rival_section(config: Config, row: str | None, *, is_network: bool) -> Any:
    """What the training of a rival depends on, or only its network, which decides the plan.

    For a row that is no rival: all rivals.
    """
    if row not in config.rivals:
        return plain(config.rivals)
    chosen = plain(config.rivals[row])
    # another place of the same environment trains nothing again
    return chosen["network"] if is_network else {k: chosen[k] for k in chosen if k != "python"}


def check_rivals(study: Study) -> None:
    """Check once, at the start of the workflow, that each rival's interpreter finds its tool.

    Raises
    ------
    ConfigError
        If one does not, or it cannot train on the data set.
    """
    rivals = study.config.rivals
    if not rivals:
        return
    from lunet.exchange.nnunet_export import check_task
    from lunet.exchange.rival_process import require_tool

    faults: list[ConfigError] = []
    with noted(faults):
        check_task(study.task)
    checked: set[tuple[str, str]] = set()
    for name, rival in rivals.items():
        tool = rival.variant.tool
        if (tool.package, rival.python) not in checked:
            with noted(faults):
                require_tool(tool, rival.python, f"rivals.{name}.python")
        checked.add((tool.package, rival.python))
    if faults:
        raise together(faults)


def hand_over_rivals(study: Study) -> None:
    """Pass the interpreters on to the jobs of this run of Snakemake.

    They are no parameters of rules, so another place of the environment trains nothing again.
    """
    pythons = {name: rival.python for name, rival in study.config.rivals.items()}
    os.environ[_VARIABLE] = json.dumps(pythons)


def handed_over_python(rival: str) -> str | None:
    """What :func:`hand_over_rivals` passed to a job for a rival; None outside of a workflow."""
    known: dict[str, str] = json.loads(os.environ.get(_VARIABLE) or "{}")
    return known.get(rival)
