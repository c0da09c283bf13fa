"""Generate pages from the code at each build, so that they cannot differ from it.

MkDocs calls the functions whose names begin with ``on_`` (``hooks`` in ``mkdocs.yml``).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from floors import drawing
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lunet"
COPIED = {
    "howto/cluster.md": "profiles/slurm/README.md",
    "project/changes.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "reference/results.md": "results/README.md",
}
"""Pages that are kept elsewhere in the repository, where people also look for them."""

GALLERY = ROOT / "results" / "gallery"
FETCHED = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"https?:|<link[^>]+href=\"https?:")
LOG = logging.getLogger("mkdocs.hooks.generate")


def on_config(config: Any) -> Any:
    """Append the pages of the modules to the section Reference of the navigation."""
    (reference,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.append({"Modules": [{name: f"reference/modules/{name}.md"} for name in rooms()]})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the generated files: references, copies, the drawing of the layers, the gallery."""
    for name, text in pages():
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "explained/floors.svg", content=drawing(PACKAGE)))
    for path in sorted(p for p in GALLERY.rglob("*") if p.is_file() and p.suffix != ".md"):
        name = f"gallery/{path.relative_to(GALLERY).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Warn if reading a page would fetch something; in a strict build a warning is an error."""
    if found := FETCHED.search(output):
        LOG.warning("%s: the page fetches %s", page.file.src_uri, found[0])
    return output


def pages() -> Iterator[tuple[str, str]]:
    """Path below ``docs/`` and Markdown of each generated page."""
    for name, source in COPIED.items():
        yield name, (ROOT / source).read_text(encoding="utf-8")
    yield "reference/configuration.md", configuration()
    yield "reference/commands.md", commands()
    yield "reference/names.md", names()
    for name in rooms():
        yield f"reference/modules/{name}.md", modules(name)


def configuration() -> str:
    """Every key of a configuration, as in ``config/README.md``."""
    from lunet.study.config_docs import manual, shipped

    return manual(shipped(ROOT / "config"))


def commands() -> str:
    """What ``lunet STEP --help`` prints, for every step."""
    from lunet.cli import STEPS, parser_of

    os.environ["COLUMNS"] = "96"  # argparse wraps its lines at the width of the terminal
    parts = [
        "# Commands",
        "Each rule of the workflow runs one of these commands, and you can run each of them "
        "yourself. `lunet STEP --help` prints the same text. The exit code is 0 for success, 1 if "
        "some of several inputs failed, 2 if the input was wrong, and 75 if the command saved its "
        "state because it was asked to stop.",
        "\n".join(f"- [`lunet {step}`](#{step}): {text}" for step, text in STEPS.items()),
    ]
    for step in STEPS:
        parts += [f"## {step}", f"```text\n{parser_of(step).format_help().strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def names() -> str:
    """What ``lunet list`` prints: presets, recipes, losses, augmentations and data sets."""
    from lunet.cli import main

    parts = [
        "# Presets, recipes, losses, data sets",
        "The names that a configuration may use, as `lunet list` prints them. The numbers of "
        "parameters are for one image channel and one label. Other widths need no code: "
        "`lunet_small_8f`, `unet_large_10f` and `pocket_small_8f` are names, too.",
    ]
    for what in ("presets", "recipes", "losses", "augmentations", "datasets"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main(["list", what])
        parts += [f"## {what}", f"`lunet list {what}`", f"```text\n{printed.getvalue()}```"]
    return "\n\n".join(parts) + "\n"


def rooms() -> list[str]:
    """Folders of the package, and ``ground`` for the modules that are in no folder."""
    found = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return ["ground", *sorted(found)]


def modules(room: str) -> str:
    """The reference of all public names in a folder of the package."""
    folder = PACKAGE if room == "ground" else PACKAGE / room
    found = folder.glob("*.py") if room == "ground" else folder.rglob("*.py")
    parts = [f"# {'lunet' if room == 'ground' else f'lunet.{room}'}"]
    for path in sorted(found):
        if not path.name.startswith("__"):
            parts.append(f"::: {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}")
    return "\n\n".join(parts) + "\n"
