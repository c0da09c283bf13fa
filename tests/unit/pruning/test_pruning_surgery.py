"""Surgery: a channel that nothing reads can go without a trace, wherever it is."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruned_networks import FAMILIES, cut_network, dropout_of, image, network, section, silence
from torch import nn

from lunet.data.settings import PreprocessSettings
from lunet.efficiency.counts import count_macs, count_parameters
from lunet.errors import ConfigError
from lunet.inference.load import load_model
from lunet.models.build import build_for_task, build_network
from lunet.models.unet import UNet
from lunet.pruning.channel_groups import layers_of_network
from lunet.pruning.surgery import (
    cut_optimiser,
    removal,
    trained_parameters,
)
from lunet.settings import plain
from lunet.task import Task
from lunet.training.weights import save_weights


def outputs(model: nn.Module, family: str) -> torch.Tensor:
    with torch.no_grad():
        return model(image(family))


@st.composite
def cuts(draw: st.DrawFn, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """A random cut of up to three layers that empties none."""
    layers = layers_of_network(model)
    cut = {}
    for name in draw(st.lists(st.sampled_from(sorted(layers)), max_size=3, unique=True)):
        width = layers[name].width
        channels = st.lists(st.integers(0, width - 1), max_size=width - 1, unique=True)
        cut[name] = tuple(draw(channels))
    return cut


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6)
@given(data=st.data())
def test_a_channel_that_nothing_reads_goes_without_a_trace(
    family: str, data: st.DataObject
) -> None:
    model, description = network(family), FAMILIES[family][0]
    for _ in range(data.draw(st.integers(0, 3), label="earlier cuts")):
        model, description = cut_network(model, description, data.draw(cuts(model)))
    for layer in layers_of_network(model).values():
        if layer.width == 1:
            continue
        number = data.draw(st.integers(1, layer.width - 1))
        channels = tuple(data.draw(st.permutations(range(layer.width)))[:number])
        quiet = copy.deepcopy(model)
        silence(quiet, layer, channels)
        smaller, _ = cut_network(quiet, description, {layer.name: channels})
        difference = (outputs(smaller, family) - outputs(quiet, family)).abs().max()
        assert difference <= 1e-10, layer.name
        assert layers_of_network(smaller)[layer.name].width == layer.width - number


@pytest.mark.parametrize("family", FAMILIES)
def test_every_convolution_is_a_layer_and_every_reader_is_named(family: str) -> None:
    model = network(family)
    layers = layers_of_network(model)
    expanded = "mednext" in family
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    convolutions = {
        name
        for name, module in model.named_modules()
        if isinstance(module, kinds) and (name.endswith("expand") if expanded else True)
    }
    makers = {layer.makers[0].tensor.removesuffix(".weight") for layer in layers.values()}
    heads = {name for name in convolutions if name.split(".")[0] in ("project", "side_heads")}
    # a residual sum ties the channels of its parts to each other
    stream = {f"encoder.{name}.conv" for name in ("0.0", "0.2", "1.1", "1.3", "1.shortcuts.0")}
    stream = (stream | {"bottleneck.1.conv"}) if family == "resenc" else set()
    assert makers == convolutions - heads - stream
    reading = {place.tensor.removesuffix(".weight") for x in layers.values() for place in x.readers}
    firsts = {"encoder.0.0.conv"}
    if family == "resenc":  # the others read the stream
        firsts |= {f"encoder.{name}.conv" for name in ("0.1", "1.0", "1.2", "1.shortcuts.0")}
        firsts |= {"bottleneck.0.conv", "up.1"}
    if not expanded:
        assert reading == convolutions - firsts


@pytest.mark.parametrize("family", FAMILIES)
def test_removing_a_channel_that_is_read_changes_the_output(family: str) -> None:
    model, description = network(family), FAMILIES[family][0]
    for layer in layers_of_network(model).values():
        smaller, _ = cut_network(model, description, {layer.name: [0]})
        assert not torch.allclose(outputs(smaller, family), outputs(model, family)), layer.name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_result_is_a_plain_network_with_its_widths_written_down(
    family: str, tmp_path: Path
) -> None:
    model, description = network(family), FAMILIES[family][0]
    for layer in list(layers_of_network(model).values())[::2]:
        model, description = cut_network(model, description, {layer.name: [layer.width - 1]})
    task = Task(("MR",), {"a": 1, "b": 2}, {"a": (1,), "b": (2,)}, FAMILIES[family][1])
    metadata = {"model": description, "task": task.as_dict()}
    metadata["preprocess"] = plain(PreprocessSettings())
    path = tmp_path / "weights.safetensors"
    save_weights(path, model.float(), metadata)
    loaded = load_model(path)
    x = image(family).float()
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    fresh = build_for_task(description, task)
    assert count_parameters(fresh) == count_parameters(model)
    assert count_macs(fresh, x.shape)["macs"] == count_macs(model, x.shape)["macs"]


def test_group_norm_ties_channels_and_is_refused() -> None:
    model = UNet(1, 1, widths=[2, 4], norm="group")
    with pytest.raises(ConfigError, match="group norm ties the channels"):
        layers_of_network(model)


def test_all_five_tensors_of_a_batch_norm_keep_the_survivors() -> None:
    """Public code copies gamma only; beta and the running statistics start anew there."""
    model, description = network("unet"), FAMILIES["unet"][0]
    before = model.state_dict()
    smaller, _ = cut_network(model, description, {"encoder.1.0": [1]})
    after = smaller.state_dict()
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        name = f"encoder.1.0.norm.{tensor}"
        assert torch.equal(after[name], before[name][[0, 2, 3]])
    count = "encoder.1.0.norm.num_batches_tracked"
    assert torch.equal(after[count], before[count])


def test_a_second_cut_at_a_level_hits_the_skip_s_slice() -> None:
    """Public code halves the channels of the concatenation: wrong from the second cut on."""
    model, description = network("unet"), FAMILIES["unet"][0]
    weight = model.get_parameter("decoder.0.0.conv.weight").clone()  # 3 upsampled, 3 of the skip
    model, description = cut_network(model, description, {"encoder.0.1": [0]})
    model, description = cut_network(model, description, {"encoder.0.1": [1]})
    kept = model.get_parameter("decoder.0.0.conv.weight")
    assert torch.equal(kept, weight[:, [0, 1, 2, 4]])  # all upsampled ones and the skip's second


def test_nested_skips_lose_the_channel_in_every_node_that_reads_it() -> None:
    model, description = network("unetpp"), FAMILIES["unetpp"][0]
    before = {n: p.clone() for n, p in model.named_parameters()}
    smaller, _ = cut_network(model, description, {"node.0_1.1": [0]})
    for column, first in ((2, 2), (3, 2)):  # after the 2 channels of the encoder
        name = f"node.0_{column}.0.conv.weight"
        kept = [c for c in range(before[name].shape[1]) if c != first]
        assert torch.equal(smaller.get_parameter(name), before[name][:, kept])


def test_no_dropout_is_added_and_probabilities_stay() -> None:
    """Public code adds a second dropout at the top decoder under another name."""
    model, description = network("unet"), FAMILIES["unet"][0]
    model.get_submodule("decoder.0.0.dropout").p = 0.07  # type: ignore[assignment]
    smaller, _ = cut_network(model, description, {"decoder.0.0": [0]})
    assert dropout_of(smaller) == dropout_of(model)
    assert dropout_of(smaller)["decoder.0.0.dropout"] == 0.07


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_moments_of_surviving_channels_are_kept(kind: str) -> None:
    """Public code makes a new optimiser at each iteration."""
    model, description = network("unet"), FAMILIES["unet"][0]
    make = torch.optim.Adam if kind == "adam" else torch.optim.SGD
    options = {} if kind == "adam" else {"momentum": 0.9}
    optimiser = make(model.parameters(), lr=1e-3, **options)  # type: ignore[arg-type]
    for _ in range(2):
        optimiser.zero_grad()
        model(image("unet")).square().mean().backward()
        optimiser.step()
    cut = {"bottleneck.0": [1, 3], "encoder.0.1": [0]}
    gone = removal(layers_of_network(model), cut)
    state = cut_optimiser(optimiser.state_dict(), trained_parameters(model), gone)
    smaller, _ = cut_network(model, description, cut)
    other = make(smaller.parameters(), lr=1e-3, **options)  # type: ignore[arg-type]
    other.load_state_dict(state)
    names = ("exp_avg", "exp_avg_sq") if kind == "adam" else ("momentum_buffer",)
    old, new = dict(model.named_parameters()), dict(smaller.named_parameters())
    for key in names:
        kept = other.state[new["bottleneck.0.conv.weight"]][key]
        whole = optimiser.state[old["bottleneck.0.conv.weight"]][key]
        assert torch.equal(kept, whole[[0, 2, 4]])
        kept = other.state[new["decoder.0.0.conv.weight"]][key]
        whole = optimiser.state[old["decoder.0.0.conv.weight"]][key]
        assert torch.equal(kept, whole[:, [0, 1, 2, 4, 5]])
    other.zero_grad()
    smaller(image("unet")).square().mean().backward()
    other.step()


def test_the_moments_of_a_step_are_those_of_the_larger_network() -> None:
    """With silenced channels, a step after the cut equals the cut after the step."""
    model, description = network("unet without a skip"), FAMILIES["unet without a skip"][0]
    layer = layers_of_network(model)["bottleneck.1"]
    silence(model, layer, (2,))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    model(image("unet")).square().mean().backward()
    cut = {"bottleneck.1": [2]}
    gone = removal(layers_of_network(model), cut)
    smaller, _ = cut_network(model, description, cut)
    other = torch.optim.Adam(smaller.parameters(), lr=1e-2)
    other.load_state_dict(cut_optimiser(optimiser.state_dict(), trained_parameters(model), gone))
    smaller(image("unet")).square().mean().backward()
    for one in (optimiser, other):
        one.step()
    expected, _ = cut_network(model, description, cut)
    for name, tensor in smaller.state_dict().items():
        assert torch.allclose(tensor, expected.state_dict()[name], atol=1e-10), name


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"encoder.0.0": [0, 1, 2]}, "at least one has to stay"),
        ({"encoder.0.0": [3]}, "0 to 2 exist"),
        ({"encoder.0.0": [-1]}, "0 to 2 exist"),
        ({"encodr.0.0": [0]}, "did you mean 'encoder.0.0'"),
    ],
)
def test_impossible_cuts_are_refused(cut: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cut_network(network("unet"), FAMILIES["unet"][0], cut)


def test_architectures_without_separable_channels_are_refused() -> None:
    grn = section("mednext", "MedNeXt", width=2, blocks=[1, 1, 1], grn=True)
    model = build_network(
        "mednext", "MedNeXt", in_channels=1, out_channels=1, ndim=2, arguments=grn["arguments"]
    )
    with pytest.raises(ConfigError, match="global response normalisation"):
        layers_of_network(model)
    with pytest.raises(ConfigError, match="Linear cannot be pruned"):
        layers_of_network(nn.Linear(1, 1))


def test_a_network_in_training_mode_and_float32_stays_so() -> None:
    model = network("lunet").float().train()
    smaller, _ = cut_network(model, FAMILIES["lunet"][0], {"head.0": [0]})
    assert smaller.training
    assert next(smaller.parameters()).dtype == torch.float32
