"""Docstrings, which are written for people who read code, as Markdown for the module reference."""

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
    """References become code, tables of characters keep their form, results are described."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that was loaded."""
        if obj.docstring is None:
            return
        returns = str(obj.returns) if isinstance(obj, griffe.Function) and obj.returns else ""
        obj.docstring.value = markdown(obj.docstring.value, returns)


def markdown(docstring: str, returns: str = "") -> str:
    """A docstring in Markdown.

    Parameters
    ----------
    docstring
        In NumPy's form.
    returns
        Annotation of the result. Where the section Returns is a plain text it is put before it,
        since each of its lines would be read as a type.
    """

    def described(found: re.Match[str]) -> str:
        lines = found["text"].split("\n")
        if not returns or any(line.startswith("    ") for line in lines[1:2]):
            return found[0]
        return "\n".join([found["head"] + returns, *(f"    {line}" for line in lines)])

    text = ROLE.sub(r"`\1`", RESULT.sub(described, docstring))
    return GRID.sub(lambda grid: "{0}```text\n{1}\n{0}```".format(grid["indent"], grid[0]), text)
