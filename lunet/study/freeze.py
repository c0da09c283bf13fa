"""Freeze the code during a run of Snakemake, so that edits do not affect queued jobs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from lunet.files import write_bytes
from lunet.leftovers import staged
from lunet.own_code import FROZEN, is_file, place_of
from lunet.study.code_digest import keep_read, own_closure

_MARK = "LUNET_SOURCE"


def freeze(store: str | Path = ".snakemake/source") -> Path:
    """Copy the package, once per content, and let this process and its jobs import the copy.

    Jobs inherit the choice through the environment: ``LUNET_SOURCE`` names the copy, ``PYTHONPATH``
    puts it first, ``PYTHONSAFEPATH`` keeps the working directory from shadowing it, and ``PATH``
    finds the ``lunet`` command of this Python.

    Returns
    -------
    Path
        Folder that holds the copy of the package.
    """
    if _MARK not in os.environ:
        copy = copy_package(Path(__file__).resolve().parent.parent, Path(store).resolve())
        scripts = str(Path(sys.executable).parent)
        os.environ |= {
            _MARK: str(copy),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(copy), os.environ.get("PYTHONPATH")])),
            "PYTHONSAFEPATH": "1",
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        }
    source = Path(os.environ[_MARK])
    sys.path.insert(0, str(source))
    for name in [name for name in sys.modules if name.split(".")[0] == "lunet"]:
        del sys.modules[name]
    return source


def _is_source(path: Path) -> bool:
    """Whether a file is a module or a template and not a compiled file."""
    return "__pycache__" not in path.parts


def copy_package(package: Path, store: Path) -> Path:
    """Copy a package, templates included, into a folder named after the digest of its content.

    Returns
    -------
    The folder that holds the copy; an existing copy is reused.
    """
    files = sorted(path for path in package.rglob("*") if path.is_file() and _is_source(path))
    content = b"".join(bytes(path.relative_to(package)) + path.read_bytes() for path in files)
    copy = store / hashlib.sha256(content).hexdigest()[:12]
    if not copy.exists():
        ignored = shutil.ignore_patterns("__pycache__")
        with staged(copy) as part:
            shutil.copytree(package, part / package.name, ignore=ignored)
            keep_read(part / package.name)
            with contextlib.suppress(OSError):  # another process was faster; its copy is the same
                part.rename(copy)
    return copy


def freeze_networks(networks: Iterable[str], store: str | Path = ".snakemake/networks") -> None:
    """Copy the files of the user's own networks, and let the jobs of this run use the copies.

    Parameters
    ----------
    networks
        Modules of networks; those that are not files of the user are left out.
    """
    copies = {name: _copy_network(name, Path(store)) for name in networks if is_file(name)}
    if copies:
        os.environ[FROZEN] = json.dumps(copies)


def _copy_network(network: str, store: Path) -> str:
    files, _ = own_closure(network)
    folder, first = place_of(network)
    contents = {path.relative_to(folder): path.read_bytes() for path, _ in files.values()}
    digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()[:12]
    copy = store.resolve() / digest
    for name, content in contents.items():
        if not (copy / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy / name, content)
    return str(copy / f"{first}.py")
