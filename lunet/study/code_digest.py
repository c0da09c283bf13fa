"""Digest of a step's code: of the modules that it imports and the templates of its page.

The digest ignores comments, docstrings, formatting and imports for type checkers, and is the same
on all supported Python versions, so that only an edit that can change a result reruns anything.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lunet.pages import TEMPLATES, template_closure

PACKAGE = Path(__file__).resolve().parent.parent
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores"}


def code_digest(*modules: str, templates: Sequence[str] = (), package: Path = PACKAGE) -> str:
    """Digest (12 hexadecimal digits) of the import closure of ``modules``.

    Parameters
    ----------
    modules
        Dotted names, for example ``lunet.training.run``.
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
    digests = sorted((name, _read(name, package)[0]) for name in closure(*modules, package=package))
    digests += _template_digests(templates, package / TEMPLATES.name) if templates else []
    return hashlib.sha256(repr(digests).encode()).hexdigest()[:12]


def _template_digests(names: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """(name, digest) of each template; readers see its text, so every byte counts."""
    used = sorted(template_closure(*names, folder=folder))
    return [(name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in used]


@functools.cache
def closure(*modules: str, package: Path = PACKAGE) -> frozenset[str]:
    """Names of ``modules`` and of all modules of the package that they import, at any depth."""
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += _read(name, package)[1]
    return frozenset(seen)


@functools.cache
def _read(module: str, package: Path) -> tuple[str, frozenset[str]]:
    """Digest of one module, and the modules of the package that it imports."""
    path = _find(module, package)
    if path is None:
        raise ModuleNotFoundError(f"no module {module} in {package}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_only_for_types(node)]
    names = {name for node in ast.walk(tree) for name in _imports(node, module, path)}
    names = {name for name in names if name.split(".")[0] == "lunet" and _find(name, package)}
    # importing a module also runs the __init__ modules of its parents
    parents = {n.rsplit(".", i)[0] for n in names | {module} for i in range(1, n.count(".") + 1)}
    digest = hashlib.sha256(repr(_canonical(tree)).encode()).hexdigest()
    return digest, frozenset(names | parents - {module})


def _is_only_for_types(node: ast.stmt) -> bool:
    """Whether it is `if TYPE_CHECKING:`, whose imports are never run."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _find(module: str, package: Path) -> Path | None:
    base = package.parent.joinpath(*module.split("."))
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
