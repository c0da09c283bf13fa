"""The description of a trained network: task, preprocessing, architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import nn

from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError, shown
from lunet.models.build import build_for_task
from lunet.own_code import is_file, is_offered, is_plugin
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
        Facts about its training, if the file has them: study, fold, seed, epoch; for pictures,
        ``pixel_mm`` or ``unit: px``.
    """

    task: Task
    preprocess: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Size of a pixel of the training pictures in mm, if it is known."""
        size = self.training.get("pixel_mm")
        return None if size is None else (float(size[0]), float(size[1]))

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


def build_described(
    described: Description,
    *,
    where: str | Path = "description",
    network: str | Path | None = None,
) -> nn.Module:
    """Build the network of a description, untrained.

    Code of its author is never run because a file of weights names it: for a network that is not
    in this package, the user gives the file, or has installed the package that offers it.

    Parameters
    ----------
    where
        The file that the description came from, for messages.
    network
        Python file of the network's class, which the user trusts.

    Raises
    ------
    DataError
        If there is no such network, it does not take these arguments, or its file was not given.
    """
    section = described.model
    with wrong_in(where):
        if is_file(section["module"]):
            section = {**section, "module": _trusted(section, network)}
        elif is_plugin(section["module"]) and not is_offered(section["module"]):
            raise DataError(
                where="",
                found=f"its network is in {section['module']}, which no installed package offers",
                expected="the package of its author is needed",
                action="Install it",
            )
        return build_for_task(section, described.task)


def _trusted(section: dict[str, Any], network: str | Path | None) -> str:
    if network is None:
        name = Path(section["module"]).name
        raise DataError(
            where="",
            found=f"its network {section['name']} is the author's own code ({name})",
            expected="such code only runs if you name its file",
            action=f"Read the file, then add `--network path/to/{name}` (in Python: network=...)",
        )
    return str(network)


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
