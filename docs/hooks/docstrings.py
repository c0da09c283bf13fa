"""Convert docstrings, which are written for readers of code, to Markdown for the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")
GRID = re.compile(
    r"^(?P<indent> *)=+(?: +=+)+\n.*\n(?P=indent)=+(?: +=+)+$", re.DOTALL | re.MULTILINE
)
RESULT = re.compile(
    r"^(?P<head>(?:Returns|Yields)\n-+\n)(?P<text>.*?)(?=\n\n\w+\n-+\n|\Z)",
    re.DOTALL | re.MULTILINE,
)


class Markdown(griffe.Extension):
    """Convert references to code, keep character tables, and describe results."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a loaded object."""
        if obj.docstring is None:
            return
        returns = str(obj.returns) if isinstance(obj, griffe.Function) and obj.returns else ""
        obj.docstring.value = markdown(obj.docstring.value, returns)


def markdown(docstring: str, returns: str = "") -> str:
    """A docstring in Markdown.

    Parameters
    ----------
    docstring
        The docstring, in NumPy's style.
    returns
        Annotation of the result. If the section Returns is plain text, the annotation is put before
        it, because otherwise each of its lines would be read as a type.
    """

    def described(found: re.Match[str]) -> str:
        lines = found["text"].split("\n")
        if not returns or any(line.startswith("    ") for line in lines[1:2]):
            return found[0]
        return "\n".join([found["head"] + returns, *(f"    {line}" for line in lines)])

    text = ROLE.sub(r"`\1`", RESULT.sub(described, docstring))
    return GRID.sub(lambda grid: "{0}```text\n{1}\n{0}```".format(grid["indent"], grid[0]), text)
