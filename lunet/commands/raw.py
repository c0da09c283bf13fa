"""How the steps that read raw data are told which data set it is: by settings, or by itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lunet.commands.arguments import read_settings

if TYPE_CHECKING:
    from lunet.data.dataset import Dataset


def raw_sections(arguments: argparse.Namespace, step: str) -> dict[str, Any]:
    """The settings' sections; none by hand, where ``dataset.json`` says what is needed."""
    if arguments.settings is None and arguments.config is None and not arguments.changes:
        return {}
    return read_settings(arguments, step)


def open_raw(arguments: argparse.Namespace, step: str) -> Dataset:
    """The data set ``arguments.raw``, with the settings that were given, if any."""
    from lunet.data.dataset import read_dataset
    from lunet.data.settings import DatasetSettings
    from lunet.task import task_from_dict
    from lunet.typed import build

    sections = raw_sections(arguments, step)
    settings = build(DatasetSettings, sections["dataset"], "dataset") if sections else None
    task = task_from_dict(sections["task"]) if sections else None
    return read_dataset(arguments.raw, settings, task)
