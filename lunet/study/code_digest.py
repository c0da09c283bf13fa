"""Digest of a step's code: of the modules that it imports and the templates of its page.

The digest ignores comments, docstrings, formatting and imports for type checkers, and is the same
on all supported Python versions, so that only an edit that can change a result reruns anything.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError
from lunet.files import write_json
from lunet.own_code import is_file, is_plugin, place_of
from lunet.pages import TEMPLATES, template_closure
from lunet.reading import read_object

PACKAGE = Path(__file__).resolve().parent.parent
_READ = "lunet-modules.json"
"""What was read of a frozen copy's modules, beside the package."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


def code_digest(
    *modules: str,
    networks: Sequence[str] = (),
    templates: Sequence[str] = (),
    package: Path = PACKAGE,
) -> str:
    """Digest (12 hexadecimal digits) of the import closure of ``modules``.

    Parameters
    ----------
    modules
        Dotted names, for example ``lunet.training.run``.
    networks
        Modules of networks: names in :mod:`lunet.models`, files of the user or modules of plug-ins.
        Of the latter two the files that they import beside themselves are covered as well.
    templates
        Templates of the pages that the step writes, for example ``report.html``; the templates that
        they include are covered as well.
    package
        Folder of the package ``lunet``: the live one or a frozen copy.

    Raises
    ------
    ModuleNotFoundError
        If a named module does not exist in the package.
    """
    roots = list(modules)
    own: dict[str, str] = {}
    for network in networks:
        if is_file(network) or is_plugin(network):
            files, used = own_closure(network)
            own |= {f"{network}: {name}": digest for name, (_, digest) in files.items()}
            roots += [name for name in used if _find(name, package.parent)]
        else:
            roots.append(f"lunet.models.{network}")
    reached = closure(*roots, package=package)
    digests = sorted((name, _read(name, package.parent)[0]) for name in reached)
    digests += sorted(own.items())
    digests += _template_digests(templates, package / TEMPLATES.name) if templates else []
    return hashlib.sha256(repr(digests).encode()).hexdigest()[:12]


def own_closure(network: str) -> tuple[dict[str, tuple[Path, str]], frozenset[str]]:
    """The code of a network outside of the package.

    Returns
    -------
    The modules that it imports beside itself, and itself (dotted name -> path and digest), and the
    names of the modules of this package that they import.

    Raises
    ------
    ConfigError
        If the file or package is missing, or a file is not Python.
    """
    folder, first = place_of(network)
    top = first.partition(".")[0]
    files: dict[str, tuple[Path, str]] = {}
    used: set[str] = set()
    todo = {first}
    while todo:
        name = todo.pop()
        path = _find(name, folder)
        if path is None or name in files:
            continue
        digest, imported = _parse(name, folder)
        files[name] = (path, digest)
        used |= {n for n in imported if n.split(".")[0] == "lunet"}
        # beside the modules of a plug-in lie all installed packages
        todo |= {n for n in imported - used if is_file(network) or n.split(".")[0] == top}
    return files, frozenset(used)


def _template_digests(names: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """(name, digest) of each template; readers see its text, so every byte counts."""
    used = sorted(template_closure(*names, folder=folder))
    return [(name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in used]


@functools.cache
def closure(*modules: str, package: Path = PACKAGE) -> frozenset[str]:
    """Names of ``modules`` and of all modules of the package that they import, at any depth."""
    folder = package.parent
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            imported = _read(name, folder)[1]
            todo += [n for n in imported if n.split(".")[0] == "lunet" and _find(n, folder)]
    return frozenset(seen)


def _parse(module: str, folder: Path) -> tuple[str, frozenset[str]]:
    """Digest of one module below a folder, and all names that it may import, with their parents."""
    path = _find(module, folder)
    if path is None:
        raise ModuleNotFoundError(f"no module {module} in {folder}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            where=path, found=f"is not Python ({error})", expected="its code is needed"
        ) from error
    tree.body = [node for node in tree.body if not _is_only_for_types(node)]
    names = {name for node in ast.walk(tree) for name in _imports(node, module, path)}
    # importing a module also runs the __init__ modules of its parents
    parents = {n.rsplit(".", i)[0] for n in names | {module} for i in range(1, n.count(".") + 1)}
    digest = hashlib.sha256(repr(_canonical(tree)).encode()).hexdigest()
    return digest, frozenset(names | parents - {module})


def _is_only_for_types(node: ast.stmt) -> bool:
    """Whether it is `if TYPE_CHECKING:`, whose imports are never run."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def keep_read(package: Path) -> None:
    """Keep what :func:`code_digest` reads of a copy's modules; nothing may edit the copy later.

    Each start of Snakemake needs the digests, and parsing all modules takes half a second.
    """
    folder, found = package.parent, {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if not all(part.isidentifier() for part in parts):
            continue  # no module: an editor's backup, for example
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        with contextlib.suppress(ConfigError):  # told by whoever needs that module
            digest, imported = _parse(name, folder)
            found[name] = [digest, sorted(imported)]
    write_json(folder / _READ, found)


@functools.cache
def _kept(folder: Path) -> dict[str, Any]:
    return read_object(folder / _READ) if (folder / _READ).is_file() else {}


@functools.cache
def _read(module: str, folder: Path) -> tuple[str, frozenset[str]]:
    if module not in _kept(folder):
        return _parse(module, folder)
    digest, imported = _kept(folder)[module]
    return digest, frozenset(imported)


def _find(module: str, folder: Path) -> Path | None:
    base = folder.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imports(node: ast.AST, module: str, path: Path) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if not isinstance(node, ast.ImportFrom):
        return set()
    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    up = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*up, *filter(None, [node.module])])
    return {base} | {f"{base}.{alias.name}" for alias in node.names}


def _canonical(node: Any) -> Any:
    """The code as nested tuples, the same on every Python version (unlike ``ast.dump``)."""
    if isinstance(node, list):
        return tuple(map(_canonical, node))
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    kept = {k: v for k, v in fields.items() if k not in _IGNORED and v is not None and v != []}
    return type(node).__name__, *((key, _canonical(kept[key])) for key in sorted(kept))
