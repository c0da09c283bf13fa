"""Code from outside the package: a Python file that a configuration names, or a plug-in.

The ``module`` of a network is ``unet`` (a file of :mod:`lunet.models`), ``nets/my_net.py`` (a file
of the user) or ``my_package.nets`` (a module of an installed package). Code of a user runs only if
the user named it: in a configuration, on the command line, or by installing the package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lunet.errors import ConfigError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PRESETS = "lunet.presets"
"""Group of the entry points by which installed packages offer presets."""
FROZEN = "LUNET_OWN_CODE"
"""Environment variable: a JSON object, file -> its copy, of a running workflow."""


def is_file(module: str) -> bool:
    """Whether a network's module is a file of the user."""
    return module.endswith(".py")


def is_plugin(module: str) -> bool:
    """Whether a network's module belongs to an installed package."""
    return "." in module and not is_file(module)


def load_entry(entry: EntryPoint) -> Any:
    """What the entry point of an installed package names.

    Raises
    ------
    ConfigError
        If it cannot be loaded.
    """
    try:
        return entry.load()
    except Exception as error:  # the code of another package may fail in any way
        raise ConfigError(
            where=f"entry point {entry.name} of {entry.group} ({entry.value})",
            found=f"cannot be loaded ({type(error).__name__}: {error})",
            expected="mend or uninstall its package",
        ) from error


def is_offered(module: str) -> bool:
    """Whether an installed package offers a preset whose network is in this module."""
    from importlib.metadata import entry_points  # only where a network of another package is met

    entries = map(load_entry, entry_points(group=PRESETS))
    return any(getattr(entry, "module", None) == module for entry in entries)


def split_class(reference: str, where: str) -> tuple[str, str]:
    """File and class of ``path/to/my_net.py:MyNet``; the file is not opened.

    Raises
    ------
    ConfigError
        If the text has another form.
    """
    file, _, name = reference.rpartition(":")
    if not is_file(file) or not name.isidentifier():
        raise ConfigError(
            where=where,
            found=f"found {reference!r}",
            expected="a file and a class are expected, for example nets/my_net.py:MyNet",
        )
    return file, name


def located(file: str) -> Path:
    """Where a file of the user is read: its copy in a running workflow, else the file itself."""
    copies = os.environ.get(FROZEN)
    return Path(json.loads(copies).get(file, file) if copies else file)


def place_of(module: str) -> tuple[Path, str]:
    """Folder from which the code of a user or plug-in is imported, and its dotted name there.

    Raises
    ------
    ConfigError
        If there is no such file or package.
    """
    if is_file(module):
        path = located(module).absolute()
        if not path.is_file():
            raise ConfigError(
                where="network",
                found=f"{module} is missing",
                expected="a Python file is needed",
                action="Paths are relative to the folder in which the command is run",
            )
        return path.parent, path.stem
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            where="network", found=f"no package {top} is installed", expected=f"{module} is in it"
        )
    return Path(next(iter(spec.submodule_search_locations))).absolute().parent, module


def check_class(file: str, name: str, where: str) -> None:
    """Refuse a file without such a class, before anything is run; the file is read, not imported.

    Raises
    ------
    ConfigError
        If the file is missing or is not Python, or defines no such class.
    """
    folder, stem = place_of(file)
    path = folder / f"{stem}.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            where=f"{where}: {file}{line}", found=f"is not Python ({reason})", expected="mend it"
        ) from error
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    if name not in classes:
        raise ConfigError(
            where=where,
            found=f"{file} defines no class {name!r}",
            expected=nearest(name, classes) if classes else "it defines no class at all",
        )


def import_own(module: str) -> ModuleType:
    """Import the file of a user, or a module of a plug-in.

    A file may import the Python files beside it by their names, as a script may.

    Raises
    ------
    ConfigError
        If the file is missing or fails while it is imported.
    """
    folder, dotted = place_of(module)
    try:
        if not is_file(module):
            return importlib.import_module(dotted)
        return _import_file(folder, dotted)
    except ConfigError:
        raise
    except Exception as error:  # the code of a user may fail in any way
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            where=module,
            found=f"cannot be imported ({type(error).__name__}: {reason:.200})",
            expected="it is imported like a script, with the Python files beside it",
        ) from error


def _import_file(folder: Path, stem: str) -> ModuleType:
    path = folder / f"{stem}.py"
    content = path.read_bytes()
    # another name for another content, so that an edit in a notebook's session counts
    name = f"lunet_own_{stem}_{hashlib.sha256(bytes(path) + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    _check_siblings(folder, content)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(
            where=path, found="cannot be imported", expected="a Python file is needed"
        )
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(folder))
    return found


def _check_siblings(folder: Path, content: bytes) -> None:
    """Refuse an import of a file beside it that would give another module of the same name."""
    for node in ast.walk(ast.parse(content)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in {name.partition(".")[0] for name in names}:
            beside, loaded = folder / f"{name}.py", sys.modules.get(name)
            if loaded is None or not beside.is_file():
                continue
            file = getattr(loaded, "__file__", None)
            if file == str(beside):  # it may have been edited since
                del sys.modules[name]
            elif file is None or Path(file).read_bytes() != beside.read_bytes():
                raise ConfigError(
                    where=beside,
                    found=f"another module {name!r} is loaded already ({file or 'built in'})",
                    expected="another file name is needed",
                )
