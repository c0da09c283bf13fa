"""The budget of the code: sizes, documentation, types, and which floor may import which."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from lunet.study.code_digest import PACKAGE
from lunet.study.config import Config
from lunet.training.recipe import Recipe

WORKFLOW = PACKAGE.parent / "workflow"
MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py"]
Function = ast.FunctionDef | ast.AsyncFunctionDef

FLOORS = (
    ("errors", "files", "typed", "task", "devices", "failures", "file_lock", "lock", "provenance"),
    ("models", "metrics"),
    ("statistics",),
    ("data",),
    ("training",),
    ("inference", "efficiency", "evaluation", "exchange", "pruning"),
    ("reporting",),
    ("study",),
    ("commands", "cli", "__main__"),
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
"""From the ground up. The study stands beside the others (see below) and below the commands."""
UPWARDS = {("commands/train.py", "lunet.cli")}
"""The one import that climbs: runs at once end as a command of their own does."""
PLAIN = ("settings", "recipe")
"""Modules of plain settings, which the study's configuration is made of."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions() -> Iterator[tuple[Path, Function]]:
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield path, node


def lines(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def imports(path: Path) -> Iterator[str]:
    """Modules and names of the package that a file imports, inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def public(node: ast.AST) -> Iterator[ast.ClassDef | Function]:
    """Classes, functions and methods that a caller may name, not those inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def test_files_are_short_and_narrow():
    texts = {name(path): path.read_text(encoding="utf-8").splitlines() for path in MODULES}
    assert {file: len(text) for file, text in texts.items() if len(text) > 400} == {}
    wide = [
        f"{file}:{number}"
        for file, text in texts.items()
        for number, line in enumerate(text, 1)
        if len(line) > 100
    ]
    assert wide == []


def test_functions_are_short():
    lengths = sorted(lines(function) for _, function in functions())
    long = [f"{name(p)}: {f.name}: {lines(f)}" for p, f in functions() if lines(f) > 60]
    assert long == []
    assert lengths[int(0.95 * len(lengths))] <= 35


def test_everything_is_typed():
    untyped = []
    for path, function in functions():
        a = function.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
        plain = [
            x.arg for x in given if x and x.annotation is None and x.arg not in ("self", "cls")
        ]
        if plain or function.returns is None:
            untyped.append(f"{name(path)}:{function.lineno} {function.name} {plain}")
    assert untyped == []


def test_everything_public_is_documented():
    missing = [name(path) for path in MODULES if ast.get_docstring(tree(path)) is None]
    for path in MODULES:
        for node in public(tree(path)):
            if ast.get_docstring(node) is None:
                missing.append(f"{name(path)}:{node.lineno} {node.name}")
    assert missing == []


def test_packages_import_nothing_of_their_own():
    full = [name(p) for p in PACKAGE.rglob("__init__.py") if p.read_text(encoding="utf-8").strip()]
    assert full == ["__init__.py"]


def climbs(file: str, module: str) -> bool:
    """Whether a file of the package imports from a higher floor, or models and metrics mix."""
    if not module.startswith("lunet.") or (file, module.rpartition(".")[0]) in UPWARDS:
        return False
    here, there = Path(file).parts[0].removesuffix(".py"), module.split(".")[1]
    if here in FLOORS[1] and there in FLOORS[1]:
        return here != there
    return HEIGHT[there] > HEIGHT[here]


def test_no_import_climbs():
    found = [(name(path), module) for path in MODULES for module in imports(path)]
    assert len(found) > 1000
    assert [f"{file} imports {module}" for file, module in found if climbs(file, module)] == []
    assert climbs("models/unet.py", "lunet.data.io.images.read_raw")
    assert climbs("metrics/case.py", "lunet.models.unet.UNet")
    assert climbs("errors.py", "lunet.training.run")


def test_the_study_and_its_settings_import_no_heavy_library():
    heavy = {"torch", "numpy", "pandas", "scipy", "nibabel", "matplotlib", "torchio"}
    for path in MODULES:
        if name(path).startswith("study/") or path.stem in PLAIN:
            top = {module.split(".")[0] for node in tree(path).body for module in _direct(node)}
            assert not top & heavy, name(path)


def _direct(node: ast.stmt) -> list[str]:
    """Modules that a statement at the top of a file imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def forbidden(node: ast.AST) -> str:
    """What must not be, if the node is one of it."""
    if isinstance(node, ast.Call):
        return _forbidden_call(node)
    if isinstance(node, ast.ExceptHandler):
        if node.type is None:
            return "a bare except"
        if all(isinstance(s, ast.Pass) for s in node.body):
            return "a swallowed error"
    if isinstance(node, ast.Assert) and not ast.unparse(node.test).endswith(" is not None"):
        return "an assertion that is more than a hint for the type checker"
    return ""


def _forbidden_call(call: ast.Call) -> str:
    called = ast.unparse(call.func)
    options = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if called in ("pickle.load", "pickle.loads", "eval", "exec", "os.system"):
        return f"{called}: runs what it reads"
    if called.endswith((".extractall", ".unpack_archive")):
        return "an archive unpacked unseen"
    if called == "torch.load" and options.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if called == "np.load" and options.get("allow_pickle") != "False":
        return "np.load without allow_pickle=False"
    return "shell=True" if options.get("shell") == "True" else ""


def test_nothing_forbidden():
    found = [
        f"{name(path)}:{node.lineno} {what}"
        for path in MODULES
        for node in ast.walk(tree(path))
        if (what := forbidden(node))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "archive.extractall(d)",
        "subprocess.run(c, shell=True)",
        "assert x > 0",
        "try:\n    f()\nexcept:\n    g()",
        "try:\n    f()\nexcept OSError:\n    pass",
    ],
)
def test_what_is_forbidden_is_found(code):
    assert any(forbidden(node) for node in ast.walk(ast.parse(code)))


def fields_of(cls: type[Any], seen: set[type[Any]]) -> Iterator[tuple[str, str]]:
    """(class, field) of settings and of all settings inside them."""
    if cls in seen:
        return
    seen.add(cls)
    for field, hint in get_type_hints(cls).items():
        yield cls.__name__, field
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from fields_of(inner, seen)


def test_every_setting_is_read():
    """Somewhere outside the settings themselves, as an attribute or, in a table, by its name."""
    text = [p.read_text(encoding="utf-8") for p in WORKFLOW.rglob("*") if p.is_file()]
    read = set(re.findall(r"\.(\w+)", "".join(t for t in text if "rule " in t)))
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.Constant) and path.stem not in (*PLAIN, "recipes", "config"):
                read.add(str(node.value))
    seen: set[type[Any]] = set()
    fields = [*fields_of(Config, seen), *fields_of(Recipe, seen)]
    assert len(fields) > 100
    assert [f"{cls}.{field}" for cls, field in fields if field not in read] == []


def test_the_workflow_is_a_table_of_contents():
    assert len((WORKFLOW / "Snakefile").read_text(encoding="utf-8").splitlines()) <= 60
    common = (WORKFLOW / "rules" / "common.smk").read_text(encoding="utf-8")
    assert len(common.splitlines()) <= 80
