"""What others build upon: names, signatures, targets, exit codes. A change here is a decision."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from paths import ROOT

import lunet
from lunet import errors
from lunet.cli import STEPS

WORKFLOW = ROOT / "workflow"

SIGNATURES = {
    "build_model": "(preset, *, in_channels=1, out_channels=1, ndim=None, **changes)",
    "load_model": "(source, *, network=None)",
    "predict": "(model, image, *, spacing=None, affine=None, settings=None)",
    "evaluate_case": "(reference, prediction, *, spacing=(1.0, 1.0, 1.0), labels=None, "
    "tolerances=(1.0,), voxel_volume=None, unit='mm')",
    "build_loss": "(name, **options)",
    "train": "(config, preset, *, fold=0, seed=0, changes=None, init=None, out=None, work=None)",
    "results": "(folder)",
    "compare": "(candidate, reference, *, metric='dice', margin=None, confidence=0.95, "
    "resamples=2000, seed=0)",
    "show": "(image, segmentation=None, *, model=None, axis=2, slices=4, channel=0, labels=None, "
    "spacing=None, affine=None)",
}
CLASSES = (
    "Config", "LunetError", "PredictSettings", "Recipe", "Results", "StatisticsSettings",
)  # fmt: skip


def plain(function) -> str:
    """Signature without its types."""
    signature = inspect.signature(function)
    untyped = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=untyped, return_annotation=signature.empty))


def test_the_public_names():
    assert sorted([*SIGNATURES, *CLASSES]) == sorted(lunet.__all__)
    assert {*lunet.__all__, "__version__"} <= set(dir(lunet))


def test_an_editor_sees_what_is_imported():
    """The imports for type checkers name the same objects as the lazy ones."""
    tree = ast.parse(Path(lunet.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    origins = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert origins == lunet._PUBLIC
    assert list(origins.keys() - set(lunet.__all__)) == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class(name):
    found = getattr(lunet, name)
    assert isinstance(found, type)
    assert (found.__name__, inspect.getdoc(found) is not None) == (name, True)


def test_the_version_is_the_packages():
    assert lunet.__version__ == version("lunet")


def test_importing_lunet_imports_nothing_heavy():
    code = "import sys, lunet; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_function(name):
    function = getattr(lunet, name)
    assert plain(function) == SIGNATURES[name]
    assert inspect.getdoc(function)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="build_modell"):
        _ = lunet.build_modell


def test_the_steps():
    promised = (
        "download phantom audit repair import plan preprocess folds train predict evaluate "
        "efficiency prune table figure report export show recover"
    )
    assert set(promised.split()) <= set(STEPS)
    modules = {p.stem for p in (Path(lunet.__file__).parent / "commands").glob("[a-z]*.py")}
    assert {step.replace("-", "_") for step in STEPS} == modules - {"arguments", "raw"}


def test_the_targets():
    files = [WORKFLOW / "Snakefile", *sorted((WORKFLOW / "rules").glob("*.smk"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    rules = re.findall(r"^rule (\w+):", text, re.MULTILINE)
    assert len(rules) == len(set(rules))
    assert {"all", "tables", "figures", "efficiency", "pruning", "report"} <= set(rules)


def test_the_exit_codes():
    family = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    codes = {error.__name__: error.exit_code for error in family}
    assert codes == {
        "LunetError": 2,
        "ConfigError": 2,
        "ConfigErrors": 2,
        "DataError": 2,
        "TrainingError": 3,
        "Busy": 4,
        "Interrupted": 75,
    }
