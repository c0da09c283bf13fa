from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from lunet.errors import TrainingError
from lunet.training.ema import MovingAverage
from lunet.training.recipe import Ema


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.ReLU(), nn.Conv3d(3, 1, 1))


def steps(model: nn.Module, average: MovingAverage | None, start: int, stop: int) -> list[dict]:
    """Plain gradient steps without optimiser state; returns the weights after each."""
    seen = []
    for i in range(start, stop):
        x = torch.randn(2, 1, 5, 5, 5, generator=torch.Generator().manual_seed(i))
        model(x).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        if average is not None:
            average.update(model)
        seen.append({k: v.clone().double() for k, v in model.state_dict().items()})
    return seen


@pytest.mark.parametrize(("decay", "warmup"), [(0.9, 0), (0.99, 4), (0.5, 100)])
def test_average_of_weights_and_statistics_equals_the_written_out_sum(
    decay: float, warmup: int
) -> None:
    model = network()
    average = MovingAverage(model, Ema(decay=decay, warmup_steps=warmup))
    history = [{k: v.clone().double() for k, v in model.state_dict().items()}]
    history += steps(model, average, 0, 8)
    shares = [1.0]  # share of each past state in the average
    for t in range(8):
        d = decay * (min(1.0, t / warmup) if warmup else 1.0)
        shares = [d * share for share in shares] + [1 - d]
    for name, value in average.average.items():
        if name.endswith("num_batches_tracked"):
            assert value.item() == 8
            continue
        expected = sum(s * state[name] for s, state in zip(shares, history, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_warmup_starts_as_a_copy() -> None:
    model = network()
    average = MovingAverage(model, Ema(decay=0.999, warmup_steps=10))
    steps(model, average, 0, 1)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(average.average[name], tensor)


def test_applied_swaps_in_and_restores_exactly_even_after_an_error() -> None:
    model = network()
    average = MovingAverage(model, Ema(decay=0.9))
    steps(model, average, 0, 3)
    own = {k: v.clone() for k, v in model.state_dict().items()}
    addresses = [p.data_ptr() for p in model.parameters()]
    with average.applied(model):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, average.average[name])
        assert not torch.equal(model[0].weight, own["0.weight"])
    with pytest.raises(ZeroDivisionError), average.applied(model):
        raise ZeroDivisionError
    assert all(torch.equal(v, own[k]) for k, v in model.state_dict().items())
    assert addresses == [p.data_ptr() for p in model.parameters()]


def test_resume_is_bit_for_bit() -> None:
    settings = Ema(decay=0.95, warmup_steps=5)
    whole_model = network()
    whole = MovingAverage(whole_model, settings)
    steps(whole_model, whole, 0, 8)
    model = network()
    average = MovingAverage(model, settings)
    steps(model, average, 0, 3)
    buffer = io.BytesIO()
    torch.save(average.state_dict(), buffer)
    buffer.seek(0)
    resumed = MovingAverage(network(), settings)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    steps(model, resumed, 3, 8)
    assert resumed.step == whole.step == 8
    assert all(torch.equal(v, whole.average[k]) for k, v in resumed.average.items())


def test_the_state_of_another_network_is_refused() -> None:
    other = MovingAverage(nn.Linear(2, 2), Ema(decay=0.9))
    with pytest.raises(TrainingError):
        MovingAverage(network(), Ema(decay=0.9)).load_state_dict(other.state_dict())


def test_averaged_model_predicts_sensibly_with_batch_norm() -> None:
    """Weights and statistics that are averaged together fit each other."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    average = MovingAverage(model, Ema(decay=0.95))
    x = torch.randn(8, 1, 16, 16) + 5
    y = (x > 5).float()
    for _ in range(150):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update(model)
    model.eval()
    with average.applied(model), torch.no_grad():
        right = ((model(x) > 0) == (y > 0)).float().mean()
    assert right > 0.95
