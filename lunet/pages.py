"""Pages made from the templates in ``lunet/templates``: HTML and Markdown, every value escaped.

HTML templates (``.html``) share one stylesheet, ``style.css``, which is embedded in each page, so
that a page is one file. In Markdown templates (``.md``) everything that Markdown would read as
markup is escaped; use ``| safe`` in code blocks.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, meta, select_autoescape
from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render(name: str, **values: Any) -> str:
    """The text of a page.

    Parameters
    ----------
    name
        File of a template in ``lunet/templates``.
    values
        Values of the template's variables; a missing one is an error.
    """
    return _environment(is_markdown=name.endswith(".md")).get_template(name).render(values)


def template_closure(*names: str, folder: Path = TEMPLATES) -> frozenset[str]:
    """Names of the templates and of all templates that they include, extend or import."""
    environment = Environment(autoescape=True)
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            tree = environment.parse((folder / name).read_text(encoding="utf-8"))
            todo += filter(None, meta.find_referenced_templates(tree))
    return frozenset(seen)


@functools.cache
def _environment(*, is_markdown: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        finalize=_markdown_value if is_markdown else None,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _markdown_value(value: object) -> object:
    return value if isinstance(value, Markup) else markdown_text(str(value))


_MARKUP = re.compile(
    r"""
    [\\`|~]                       # escape, code, cell, strike
    | \*(?!$|\s)                  # emphasis, which a star before a space cannot open
    | (?<![A-Za-z0-9])_           # emphasis; inside a word an underscore means itself
    | _(?![A-Za-z0-9])
    | <(?=[A-Za-z/!?])            # a tag
    | (?<=\])[(:]                 # the address of a link
    | &(?=\#?[A-Za-z0-9]+;)       # an entity
    """,
    re.VERBOSE,
)


def markdown_text(text: str) -> str:
    """One line of plain text as Markdown shows it unchanged: no tag, no link, no emphasis."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))
