"""The budget of the code: sizes and what is forbidden; `make lint` checks types and floors."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from collections import Counter
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


def test_no_two_test_files_share_a_name():
    """pytest imports them by name alone, and a second of the same name is not collected."""
    files = [path.name for path in (PACKAGE.parent / "tests").rglob("test_*.py")]
    assert [file for file, times in Counter(files).items() if times > 1] == []


def test_functions_are_short():
    lengths = sorted(lines(function) for _, function in functions())
    long = [f"{name(p)}: {f.name}: {lines(f)}" for p, f in functions() if lines(f) > 70]
    assert long == []
    assert lengths[int(0.95 * len(lengths))] <= 35


def test_packages_import_nothing_of_their_own():
    """They may have a docstring."""
    full = [name(p) for p in PACKAGE.rglob("__init__.py") if tree(p).body]
    assert [file for file in full if not _is_prose(PACKAGE / file)] == ["__init__.py"]


def _is_prose(path: Path) -> bool:
    return len(tree(path).body) == 1 and ast.get_docstring(tree(path)) is not None


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


@pytest.mark.slow
def test_each_script_finds_what_it_imports() -> None:
    """Benchmarks and accidents are run by hand, without the paths that pytest adds."""
    tests = PACKAGE.parent / "tests"
    scripts = [*(tests / "benchmarks").glob("*.py"), *(tests / "workflow/slurm").glob("*.py")]
    assert len(scripts) > 15
    program = "import runpy, sys; sys.path[0] = sys.argv[2]; runpy.run_path(sys.argv[1])"
    for script in sorted(scripts):
        words = [sys.executable, "-c", program, script, script.parent]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
