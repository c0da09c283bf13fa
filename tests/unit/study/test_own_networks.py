"""Networks in a file of the user, and presets of installed packages."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import BINARY

from lunet.data.settings import PreprocessSettings
from lunet.efficiency.measure import measure_network
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, DataError
from lunet.inference.description import Description
from lunet.inference.load import load_model
from lunet.models.build import build_for_task, build_network
from lunet.own_code import FROZEN
from lunet.pruning.channel_groups import layers_of_network
from lunet.settings import plain
from lunet.study.config import parse
from lunet.study.demands import require_prunable
from lunet.study.freeze import freeze_networks
from lunet.study.listing import listing_lines, listing_records
from lunet.study.presets import find_preset
from lunet.study.study import Study, study_of
from lunet.training.weights import save_weights

HEAD = """import torch
from torch import nn
from own_blocks import GAIN
"""
NET = (
    HEAD
    + """

class Halves(nn.Module):
    def __init__(self, in_channels, out_channels, width=2, kernels: list[int] = [3]):
        super().__init__()
        self.fine = nn.Conv3d(in_channels, width, kernels[0], padding=1)
        self.coarse = nn.Conv3d(in_channels, width, 4, stride=4)
        self.up = nn.ConvTranspose3d(width, width, 4, stride=4)
        self.head = nn.Conv3d(2 * width, out_channels, 1)

    def forward(self, x):
        return self.head(torch.cat([GAIN * self.fine(x), self.up(self.coarse(x))], 1))
"""
)
PLAIN = """from torch import nn


class Net(nn.Module):
    STATED

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, x):
        return OUTPUT
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """``my_net.py`` with a class, and ``own_blocks.py``, which it imports."""
    (tmp_path / "own_blocks.py").write_text("GAIN = 1.0\n")
    (tmp_path / "my_net.py").write_text(NET)
    yield tmp_path / "my_net.py"
    sys.modules.pop("own_blocks", None)


def build(path: Path, name: str = "Halves", **arguments: Any) -> torch.nn.Module:
    return build_network(
        str(path), name, in_channels=1, out_channels=2, ndim=3, arguments=arguments
    )


def study(net: Path, **more: Any) -> Study:
    variants = {"mine": {"network": f"{net}:Halves"}, "base": {"base": "unet_small_1f"}, **more}
    return Study(
        parse(
            {
                "study": "s",
                "dataset": {"name": "phantom"},
                "presets": list(variants),
                "variants": variants,
            }
        )
    )


def test_any_size_is_padded_and_cropped(net: Path) -> None:
    network = build(net, kernels=[3], width=3).eval()
    assert network.multiple == (4, 4, 4)
    x = torch.randn(2, 1, 5, 8, 11)
    with torch.no_grad():
        logits = network(x)
        padded = network.network(torch.nn.functional.pad(x, (0, 1, 0, 0, 0, 3)))
    assert logits.shape == (2, 2, 5, 8, 11)
    assert torch.equal(logits, padded[..., :5, :8, :11])


def test_the_trial_does_not_change_the_weights(net: Path) -> None:
    torch.manual_seed(3)
    build(net)
    torch.manual_seed(3)
    first = build(net).state_dict()
    torch.manual_seed(3)
    import lunet.own_code as own_code

    second = own_code.import_own(str(net)).Halves(1, 2).state_dict()
    assert all(torch.equal(first[f"network.{name}"], value) for name, value in second.items())


@pytest.mark.parametrize(
    ("stated", "output", "message"),
    [
        ("", "self.conv(x)[:, :1]", "rule 3.*one tensor of logits"),
        ("", "self.conv(x)[..., 1:]", "rule 3"),
        ("", "[self.conv(x)]", "into a list.*rule 3"),
        ("multiple = 0", "self.conv(x)", "multiple is 0.*rule 4"),
        ("multiple = (1, 2)", "self.conv(x)", "rule 4"),
        (
            "multiple = 2",
            "self.conv(x) + nn.functional.interpolate(nn.functional.max_pool3d(x, 4), None, 4)",
            r"forward fails on .*\(rule 4: set `multiple`\)",
        ),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, stated: str, output: str, message: str) -> None:
    path = tmp_path / "net.py"
    path.write_text(PLAIN.replace("STATED", stated or "'''A net.'''").replace("OUTPUT", output))
    with pytest.raises(ConfigError, match=message):
        build(path, "Net")


def test_code_that_reads_values_is_tried_on_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    text = PLAIN.replace("STATED", "'''A net.'''")
    path.write_text(text.replace("OUTPUT", "self.conv(x) * (1 + x.mean().item())"))
    assert build(path, "Net")(torch.zeros(1, 1, 3, 4, 5)).shape == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"kernels": [2.5]}, "list\\[int\\]"), ({"widht": 3}, "unknown argument.*'width'")],
)
def test_arguments_are_checked(net: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(net, **arguments)


def test_channels_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    text = PLAIN.replace("in_channels", "inputs").replace("STATED", "'''A net.'''")
    path.write_text(text.replace("OUTPUT", "x"))
    with pytest.raises(ConfigError, match="takes no argument in_channels, rule 1"):
        build(path, "Net")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("my_net.py", "a file and a class are expected"),
        ("nowhere.py:Net", "nowhere.py is missing"),
        ("my_net.py:Halfs", "no class 'Halfs', did you mean 'Halves'"),
    ],
)
def test_a_wrong_reference_is_refused_at_the_start(
    net: Path, monkeypatch: pytest.MonkeyPatch, reference: str, message: str
) -> None:
    monkeypatch.chdir(net.parent)
    with pytest.raises(ConfigError, match=message):
        study(net, wrong={"network": reference})


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"train": {"deep_supervision": [1, 0.5]}}, r"train\.deep_supervision: 2 weights"),
        ({"arguments": {"deep_supervision": True}}, r"arguments\.deep_supervision: found true"),
    ],
)
def test_heads_for_deep_supervision_are_refused_before_training(
    net: Path, more: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"deep, {key}.*one output \(rule 3"):
        study(net, deep={"network": f"{net}:Halves", **more})


def test_pruning_is_refused_before_training(net: Path) -> None:
    mapping = {
        "study": "s",
        "dataset": {"name": "phantom"},
        "presets": ["mine"],
        "variants": {"mine": {"network": f"{net}:Halves"}},
    }
    assert study_of(mapping | {"prune": {"preset": "mine"}}).presets  # pruning is off
    with pytest.raises(ConfigError, match=r"prune\.preset: mine is a network of your own, which"):
        study_of(mapping | {"prune": {"enabled": True, "preset": "mine"}})
    with pytest.raises(ConfigError, match="cannot be pruned"):
        layers_of_network(build(net))  # `lunet prune` by hand


@pytest.mark.parametrize(
    "name", ["unet_small_1f", "lunetpp_small_1f", "mednext_small", "slim_unetrv2_96"]
)
def test_what_is_refused_is_what_cannot_be_pruned(name: str) -> None:
    row = find_preset(name)
    with torch.device("meta"):
        network = build_network(
            row.module, row.network, in_channels=1, out_channels=1, ndim=3, arguments=row.arguments
        )
    try:
        layers_of_network(network)
    except ConfigError:
        with pytest.raises(ConfigError, match="cannot be pruned"):
            require_prunable(row, "prune.preset")
    else:
        require_prunable(row, "prune.preset")


def test_its_costs_are_measured(net: Path) -> None:
    settings = EfficiencySettings(
        size=(8, 8, 8), batches=(1,), warmups=1, repeats=5, processes=1, budget_s=1e-3,
        throughput_batch=1, device="cpu",
    )  # fmt: skip
    model = study(net).sections("efficiency", "mine")["model"]
    found = measure_network(
        {
            "model": model, "task": BINARY.as_dict(), "efficiency": plain(settings),
            "training_batch": 2, "engine": {}, "first": True, "network": True, "training": True,
            "killed": "",
        }
    )  # fmt: skip
    parameters = sum(p.numel() for p in build_for_task(model, BINARY).parameters())
    assert found["network"]["parameters"] == parameters
    assert found["network"]["macs"] > 0
    assert len(found["network"]["latency"][0]["ms"]) == 5
    assert found["training"]["training_peak_bytes"] > 0


def test_a_variant_has_a_base_or_a_network(net: Path) -> None:
    with pytest.raises(ConfigError, match=r"empty\.base: missing, required"):
        study(net, empty={"recipe": "strong"})


@pytest.mark.parametrize("file", ["my_net.py", "own_blocks.py"])
def test_an_edit_of_its_files_retrains_this_variant_only(net: Path, file: str) -> None:
    before = {name: study(net).digest("train", name) for name in ("mine", "base")}
    path = net.parent / file
    path.write_text("# a comment\n" + path.read_text())
    assert study(net).digest("train", "mine") == before["mine"]
    path.write_text(path.read_text().replace("GAIN =", "MORE = 2\nGAIN =").replace("3,", "5,"))
    path.write_text(path.read_text() + "\nOTHER = 1\n")
    after = {name: study(net).digest("train", name) for name in ("mine", "base")}
    assert after["mine"] != before["mine"]
    assert after["base"] == before["base"]


def test_a_running_workflow_keeps_the_code_that_it_started_with(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FROZEN, "{}")
    before = study(net).digest("train", "mine")
    freeze_networks([str(net), "unet"], tmp_path / "store")
    (net.parent / "own_blocks.py").write_text("GAIN = 2.0\n")
    assert study(net).digest("train", "mine") == before
    assert build(net)(torch.zeros(1, 1, 4, 4, 4)).shape == (1, 2, 4, 4, 4)
    assert Path(sys.modules["own_blocks"].__file__).is_relative_to(tmp_path / "store")
    os.environ[FROZEN] = "{}"
    assert study(net).digest("train", "mine") != before


def test_another_loaded_module_of_the_same_name_is_refused(net: Path) -> None:
    build(net)
    other = net.parent / "other"
    other.mkdir()
    (other / "my_net.py").write_text(NET)
    (other / "own_blocks.py").write_text("GAIN = 2.0\n")
    with pytest.raises(ConfigError, match="another module 'own_blocks' is loaded already"):
        build(other / "my_net.py")


def test_an_edit_in_a_session_counts(net: Path) -> None:
    x = torch.ones(1, 1, 4, 4, 4)
    outputs = []
    for gain in (1.0, 2.0):
        (net.parent / "own_blocks.py").write_text(f"GAIN = {gain}\n")
        net.write_text(NET + f"\n# {gain}\n")
        torch.manual_seed(0)
        outputs.append(build(net)(x))
    assert not torch.equal(*outputs)


def test_weights_run_no_code_unless_the_file_is_given(net: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    model = {"preset": "mine", "module": str(net), "name": "Halves", "arguments": {}}
    task = replace(BINARY, labels={"a": 1, "b": 2})
    described = Description(task, plain(PreprocessSettings()), model)
    network = build_for_task({**model, "arguments": {"width": 2}}, replace(task, labels={"a": 1}))
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, network, replace(described, task=BINARY).as_dict())
    net.write_text(f"open({str(mark)!r}, 'w').close()\n" + NET)
    with pytest.raises(DataError, match=r"own code \(my_net.py\).*--network path/to/my_net.py"):
        load_model(weights)
    assert not mark.exists()
    assert load_model(weights, network=net)(torch.zeros(1, 1, 3, 4, 5)).shape == (1, 1, 3, 4, 5)
    assert mark.exists()


def test_weights_import_no_installed_module_that_offers_no_preset(tmp_path: Path) -> None:
    model = {"preset": "x", "module": "json.tool", "name": "main", "arguments": {}}
    described = Description(BINARY, plain(PreprocessSettings()), model)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, torch.nn.Linear(1, 1), described.as_dict())
    sys.modules.pop("json.tool", None)
    with pytest.raises(DataError, match=r"json\.tool, which no installed package offers"):
        load_model(weights)
    assert "json.tool" not in sys.modules


def test_a_broken_network_does_not_hide_the_others_in_the_list(net: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("class Net:\n    pass\n")
    config = tmp_path / "c.yaml"
    config.write_text(
        "study: s\ndataset: {name: phantom}\npresets: [broken, mine]\nvariants:\n"
        f"  broken: {{network: '{tmp_path}/broken.py:Net'}}\n"
        f"  mine: {{network: '{net}:Halves'}}\n"
    )
    lines = list(listing_lines(listing_records("presets", str(config))))
    assert "broken (" in lines[1]
    assert "no class of torch.nn.Module" in lines[1]
    assert lines[2].split()[:2] == ["mine", "449"]


PLUGIN = """from lunet.study.presets import Preset

TINY = Preset("plugged_net", "far_plugin.nets", "Net", {}, "paper_small", "a package")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a preset."""
    package, about = tmp_path / "far_plugin", tmp_path / "far_plugin-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: far-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lunet.presets]\nplugged_net = far_plugin.rows:TINY\n")
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(PLUGIN)
    text = PLAIN.replace("STATED", "'''A net.'''").replace("OUTPUT", "self.conv(x)")
    (package / "nets.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.startswith("far_plugin")]:
        del sys.modules[name]


def test_an_installed_package_offers_a_preset(plugin: Path, tmp_path: Path) -> None:
    row = find_preset("plugged_net")
    network = build_network(
        row.module, row.network, in_channels=1, out_channels=1, ndim=3, arguments={}
    )
    assert sum(p.numel() for p in network.parameters()) == 28
    assert any(
        line.startswith("plugged_net ") for line in listing_lines(listing_records("presets"))
    )
    section = {"preset": row.name, "module": row.module, "name": row.network, "arguments": {}}
    described = Description(BINARY, plain(PreprocessSettings()), section)
    save_weights(tmp_path / "weights.safetensors", network, described.as_dict())
    assert load_model(tmp_path / "weights.safetensors")(torch.zeros(1, 1, 3, 4, 5)).shape[1] == 1


def test_an_edit_of_the_installed_package_counts(plugin: Path) -> None:
    config = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["plugged_net"]}
    before = Study(parse(config)).digest("train", "plugged_net")
    (plugin / "nets.py").write_text((plugin / "nets.py").read_text() + "\nMORE = 1\n")
    assert Study(parse(config)).digest("train", "plugged_net") != before


def test_an_entry_point_that_is_no_preset_is_named(plugin: Path) -> None:
    (plugin / "rows.py").write_text("TINY = 3\n")
    with pytest.raises(ConfigError, match=r"entry point plugged_net of lunet\.presets.*is 3"):
        find_preset("plugged_net")
