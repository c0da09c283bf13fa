"""What a step's code means: edits that count, edits that do not, and import hygiene."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib

import pytest

from lunet.errors import ConfigError
from lunet.study.code_digest import PACKAGE, closure, code_digest
from lunet.study.freeze import copy_package
from lunet.study.steps import STEPS

MODELS = sorted(p.stem for p in (PACKAGE / "models").glob("[a-z]*.py"))
NETWORKS = ["unet", "unetpp", "mednext", "attention_unet", "slim_unetr"]


@pytest.fixture
def package(tmp_path):
    """A small package named lunet with a module that imports another inside a function."""
    root = tmp_path / "lunet"
    (root / "sub").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "sub" / "__init__.py").write_text("")
    (root / "sub" / "a.py").write_text(
        '"""Doc."""\ndef f(x):\n    """Doc."""\n    from ..b import g\n    return g(x) + 1\n'
    )
    (root / "b.py").write_text("def g(x):\n    return x\n")
    (root / "c.py").write_text("VALUE = 1\n")
    return root


def _moved(package, tmp_path, name):
    """A copy elsewhere, since digests of a package are cached by its path."""
    copy = tmp_path / name / "lunet"
    shutil.copytree(package, copy)
    return copy


EDITS = {
    "comment": ("sub/a.py", "    return g(x) + 1", "    # why\n    return g(x) + 1", False),
    "docstring": ("sub/a.py", '"""Doc."""\ndef', '"""Other words."""\ndef', False),
    "formatting": ("sub/a.py", "g(x) + 1", "(g(x)\n            + 1)", False),
    "constant": ("sub/a.py", "+ 1", "+ 2", True),
    "imported module": ("b.py", "return x", "return -x", True),
    "import for types": (
        "sub/a.py",
        "def f",
        "if TYPE_CHECKING:\n    import lunet.c\ndef f",
        False,
    ),
    "another module": ("c.py", "VALUE = 1", "VALUE = 2", False),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits(package, tmp_path, name):
    file, old, new, counts = EDITS[name]
    before = code_digest("lunet.sub.a", package=package)
    copy = _moved(package, tmp_path, "copy")
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    assert (code_digest("lunet.sub.a", package=copy) != before) == counts


REPORT = STEPS["report"]


@pytest.mark.parametrize(
    ("template", "counts"),
    [("report.html", True), ("blocks.html", True), ("page.html", True), ("style.css", True),
     ("report.js", True), ("audit.html", False), ("card.md", False)],
)  # fmt: skip
def test_an_edit_of_a_template_writes_the_report_again(tmp_path, template, counts):
    before = code_digest(*REPORT.modules, templates=REPORT.templates)
    package = tmp_path / "lunet"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    same = code_digest(*REPORT.modules, templates=REPORT.templates, package=package)
    assert same == before
    edited = tmp_path / "edited" / "lunet"
    shutil.copytree(package, edited)
    with open(edited / "templates" / template, "a") as stream:
        stream.write("\n")
    after = code_digest(*REPORT.modules, templates=REPORT.templates, package=edited)
    assert (after != before) == counts


def test_a_frozen_copy_has_the_digests_of_what_it_is_a_copy_of(package, tmp_path):
    (package / "broken.py").write_text("def f(:\n")  # nothing imports it
    for name in (".ipynb_checkpoints/b-checkpoint.py", "b.old.py", "._b.py"):  # of editors
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("import lunet.b\n")
    copy = copy_package(package, tmp_path / "store") / "lunet"
    for module in ("lunet.sub.a", "lunet.b", "lunet.sub"):
        assert code_digest(module, package=copy) == code_digest(module, package=package)
    with pytest.raises(ConfigError, match=r"broken\.py: is not Python"):
        code_digest("lunet.broken", package=copy)


def test_the_digests_of_a_frozen_copy_are_not_read_from_its_modules(package, tmp_path):
    copy = copy_package(package, tmp_path / "store") / "lunet"
    for module in copy.rglob("*.py"):
        module.write_text("")
    assert code_digest("lunet.sub.a", package=copy) == code_digest("lunet.sub.a", package=package)


def test_the_look_of_a_page_prepares_and_trains_nothing():
    made = {name for name, step in STEPS.items() if step.templates}
    assert made == {"report", "rival_plan", "rival_train", "rival_cost"}


def test_the_frozen_copy_has_the_templates_and_changes_with_them(tmp_path):
    package = tmp_path / "lunet"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    one = copy_package(package, tmp_path / "store")
    names = {path.name for path in (PACKAGE / "templates").iterdir()}
    assert {path.name for path in (one / "lunet" / "templates").iterdir()} == names
    assert copy_package(package, tmp_path / "store") == one
    with open(package / "templates" / "style.css", "a") as stream:
        stream.write("\n")
    assert copy_package(package, tmp_path / "store") != one


def test_the_wheel_has_the_templates():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["lunet"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert set((PACKAGE / "templates").iterdir()) <= packed


def test_an_unknown_module_is_an_error(package):
    with pytest.raises(ModuleNotFoundError):
        code_digest("lunet.nothing", package=package)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_imports_no_other_network(network):
    others = {f"lunet.models.{name}" for name in NETWORKS if name != network}
    assert not closure(f"lunet.models.{network}") & others


@pytest.mark.parametrize("step", [step for step in STEPS if STEPS[step].modules])
def test_no_step_depends_on_a_network_the_study_or_a_command(step):
    modules = closure(*STEPS[step].modules)
    banned = {f"lunet.models.{name}" for name in NETWORKS}
    assert not modules & banned
    assert not [name for name in modules if name.startswith(("lunet.study.", "lunet.commands."))]


@pytest.mark.parametrize("step", ["train", "predict", "evaluate", "efficiency", "preprocess"])
def test_pictures_do_not_invalidate_results(step):
    assert not [n for n in closure(*STEPS[step].modules) if n.startswith("lunet.reporting.")]


@pytest.mark.parametrize("step", ["train", "predict", "preprocess"])
def test_metrics_do_not_invalidate_what_is_measured(step):
    found = {n for n in closure(*STEPS[step].modules) if n.startswith("lunet.metrics.")}
    assert found <= {"lunet.metrics.thresholds"}


def test_the_workflow_imports_neither_torch_nor_pandas():
    code = "import sys, lunet.study.study; print([m for m in sys.modules if m in "
    code += "('torch', 'torchio', 'pandas', 'numpy', 'matplotlib', 'nibabel')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
