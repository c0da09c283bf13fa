"""What others build upon: names, signatures, targets, exit codes. A change here is a decision."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from paths import ROOT

import lunet
from lunet import errors
from lunet.cli import STEPS

WORKFLOW = ROOT / "workflow"

SIGNATURES = {
    "build_model": "(preset, *, in_channels=1, out_channels=1, ndim=None, **changes)",
    "load_model": "(source)",
    "predict": "(model, image, *, spacing=None, affine=None, settings=None)",
    "evaluate_case": "(reference, prediction, *, spacing=(1.0, 1.0, 1.0), labels=None, "
    "tolerances=(1.0,), voxel_volume=None)",
    "build_loss": "(name, **options)",
}


def plain(function) -> str:
    """Signature without its types."""
    signature = inspect.signature(function)
    untyped = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=untyped, return_annotation=signature.empty))


def test_the_public_names():
    assert sorted(SIGNATURES) == lunet.__all__
    assert set(SIGNATURES) <= set(dir(lunet))


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
        "DataError": 2,
        "TrainingError": 3,
        "Busy": 4,
        "Interrupted": 75,
    }
