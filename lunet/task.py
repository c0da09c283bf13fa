"""What is segmented: image channels in, labels or regions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NotRequired, TypedDict

from lunet.errors import ConfigError, shown
from lunet.reading import typed, wrong_in
from lunet.settings import Within

ClassIndex = Annotated[int, Within(1, 255)]
Length = Literal["mm", "px"]
"""Unit of distances: ``px`` where images have no physical size (pictures)."""


def of_pictures(text: str) -> str:
    """A text about voxels, in the words of pictures."""
    return text.replace("voxel", "pixel").replace("Voxel", "Pixel")


class TaskForm(TypedDict):
    """The form of :meth:`Task.as_dict` in a file."""

    channels: list[str]
    labels: dict[str, ClassIndex]
    regions: NotRequired[dict[str, list[ClassIndex]]]
    dimensions: NotRequired[Literal[2, 3]]


@dataclass(frozen=True)
class Task:
    """A segmentation task.

    Attributes
    ----------
    channels
        Names of the image channels, in the order of the channel axis.
    labels
        Foreground label name -> class index on disk (1, 2, ...; background is 0 and is not listed).
    regions
        Region name -> class indices that it unites; regions may overlap (BraTS). Empty for plain
        labels. With regions the network has one sigmoid channel per region.
        Labels and regions are sorted into the order of the network's channels: labels by index,
        regions from the largest union to the smallest. This order depends only on the content, so
        it survives any file format.
    dimensions
        2 or 3.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dimensions: int = 3

    def __post_init__(self) -> None:
        if not self.channels:
            raise ConfigError(
                where="task.channels",
                found="empty",
                expected="at least one image channel is needed",
            )
        if not self.labels:
            raise ConfigError(
                where="task.labels",
                found="empty",
                expected="at least one foreground label is needed",
            )
        indices = list(self.labels.values())
        if len(set(indices)) != len(indices) or not all(0 < index < 256 for index in indices):
            raise ConfigError(
                where="task.labels",
                found=shown(self.labels),
                expected="the indices must be different numbers from 1 to 255",
            )
        unknown = {i for members in self.regions.values() for i in members} - set(indices)
        if unknown:
            raise ConfigError(
                where="task.regions",
                found=f"indices {shown(sorted(unknown))}",
                expected=f"labels are {shown(self.labels)}",
            )
        if self.dimensions not in (2, 3):
            raise ConfigError(
                where="task.dimensions", found=str(self.dimensions), expected="2 or 3 is expected"
            )
        # the channels follow this order, which must survive JSON with sorted keys
        by_index = dict(sorted(self.labels.items(), key=lambda item: item[1]))
        by_size = dict(sorted(self.regions.items(), key=lambda item: (-len(item[1]), item[0])))
        object.__setattr__(self, "labels", by_index)
        object.__setattr__(self, "regions", by_size)

    @property
    def activation(self) -> str:
        """``sigmoid`` (binary task, overlapping regions) or ``softmax`` (several labels)."""
        return "sigmoid" if self.regions or len(self.labels) == 1 else "softmax"

    @property
    def out_channels(self) -> int:
        """Number of logit channels: one per region; else 1 for one label, k + 1 for k labels."""
        if self.regions:
            return len(self.regions)
        return 1 if len(self.labels) == 1 else len(self.labels) + 1

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """The evaluated structures: name -> class indices that it unites."""
        return self.regions or {name: (index,) for name, index in self.labels.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the evaluated structures, in the order of the (foreground) logit channels."""
        return tuple(self.structures)

    def same_content(self, other: Task) -> bool:
        """Whether channels, labels and regions are those of ``other``, in slices or in volumes."""
        return replace(self, dimensions=other.dimensions) == other

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values; :func:`task_from_dict` converts them back."""
        return {
            "channels": list(self.channels),
            "labels": dict(self.labels),
            "regions": {name: list(indices) for name, indices in self.regions.items()},
            "dimensions": self.dimensions,
        }


def task_from_dict(value: Mapping[str, object], where: object = "task") -> Task:
    """Rebuild a :class:`Task` from :meth:`Task.as_dict`.

    Raises
    ------
    DataError
        If a key is missing or has another type, or if the task is impossible. The message names
        the file ``where``.
    """
    found = typed(value, TaskForm, where)
    with wrong_in(where):
        return Task(
            channels=tuple(found["channels"]),
            labels=found["labels"],
            regions={name: tuple(indices) for name, indices in found.get("regions", {}).items()},
            dimensions=found.get("dimensions", 3),
        )
