"""The description of a trained network: task, preprocessing, architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import nn

from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError, shown
from lunet.models.build import build_for_task
from lunet.reading import typed, wrong_in
from lunet.settings import build_settings
from lunet.task import Task, TaskForm, task_from_dict


class _Model(TypedDict):
    module: str
    name: str
    arguments: NotRequired[dict[str, Any]]
    preset: NotRequired[str]


class _Described(TypedDict):
    """A description in a file's header."""

    task: TaskForm
    preprocess: dict[str, Any]
    model: _Model


@dataclass(frozen=True)
class Description:
    """The task and origin of a network; :func:`lunet.load_model` attaches it as ``model.lunet``.

    Attributes
    ----------
    task
        Channels, labels or regions, dimensions.
    preprocess
        The ``preprocess`` section (plain values) that its training images went through.
    model
        The ``model`` section: preset, module, name, arguments.
    training
        Facts about its training, if the file has them: study, fold, seed, epoch.
    """

    task: Task
    preprocess: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; :func:`description_from_dict` reads them back."""
        head = {"task": self.task.as_dict(), "preprocess": self.preprocess, "model": self.model}
        return head | self.training


def description_from_dict(value: Any, *, where: str | Path) -> Description:
    """Rebuild a :class:`Description`; ``where`` is the file that it came from.

    Raises
    ------
    DataError
        If a section is missing or malformed.
    """
    if not isinstance(value, dict):
        raise DataError(
            where=where,
            found=f"its description is {shown(value)}",
            expected="a mapping is expected",
        )
    for section in ("task", "preprocess", "model"):
        if section not in value:
            raise DataError(
                where=where,
                found=f"its description has no section {section!r}",
                expected="weights written by `lunet train` or `lunet export` are expected",
            )
    found = typed(value, _Described, where)
    with wrong_in(where):
        build_settings(PreprocessSettings, found["preprocess"], "preprocess")
    rest = {k: v for k, v in value.items() if k not in ("task", "preprocess", "model")}
    task = task_from_dict(value["task"], f"{where}: task")
    return Description(task, dict(found["preprocess"]), dict(found["model"]), rest)


def build_described(described: Description, *, where: str | Path = "description") -> nn.Module:
    """Build the network of a description, untrained; ``where`` is the file that it came from.

    Raises
    ------
    DataError
        If there is no such network, or it does not take these arguments.
    """
    with wrong_in(where):
        return build_for_task(described.model, described.task)


def description_of(model: nn.Module) -> Description:
    """The description that :func:`lunet.load_model` attached.

    Raises
    ------
    DataError
        If the network has none.
    """
    described = getattr(model, "lunet", None)
    if not isinstance(described, Description):
        raise DataError(
            where=type(model).__name__,
            found="has no description of task and preprocessing",
            expected="a network from lunet.load_model is expected",
            action="Load it with lunet.load_model, or set its attribute `lunet` to a Description",
        )
    return described
