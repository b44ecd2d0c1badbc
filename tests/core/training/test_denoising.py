"""The objective of diffusion training: what is drawn, and how levels are weighed."""

import copy

import pytest
import torch

from adadiffsr_core.models.processor import Processor
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.training.tasks.denoising import draw_noise, snr_weight
from tests.devices import META

CPU = Processor()
PREDICTIONS = ("v", "eps", "flow")


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_every_part_of_the_schedule_is_drawn_once_in_any_order(count):
    orders = set()
    for seed in range(4):
        timesteps, noise = draw_noise(torch.zeros(count, 4, 2, 2), CPU.generator(seed, 0))
        assert timesteps.dtype == torch.int64
        ordered = timesteps.sort().values
        edges = torch.arange(count + 1) * 1000 / count
        assert bool((ordered >= edges[:-1].floor()).all())
        assert bool((ordered <= edges[1:]).all())
        assert 0 <= int(ordered[0]) <= int(ordered[-1]) <= 999
        assert noise.shape == (count, 4, 2, 2)
        orders.add(tuple(timesteps.argsort().tolist()))
    assert len(orders) == (1 if count == 1 else 4)


def test_a_step_draws_its_own_and_always_the_same():
    gt = torch.zeros(8, 4, 8, 8)
    drawn = {place: draw_noise(gt, CPU.generator(*place)) for place in ((3, 0), (3, 1), (4, 0))}
    for place, (timesteps, noise) in drawn.items():
        again = draw_noise(gt, CPU.generator(*place))
        assert torch.equal(timesteps, again[0])
        assert torch.equal(noise, again[1])
    assert len({float(noise[0, 0, 0, 0]) for _, noise in drawn.values()}) == 3
    assert abs(float(drawn[3, 0][1].std()) - 1) < 0.1


def test_meta_draws_shapes():
    timesteps, noise = draw_noise(torch.zeros(5, 4, 2, 2, device="meta"), META.generator(0, 0))
    assert (timesteps.device.type, noise.device.type) == ("meta", "meta")
    assert (timesteps.shape, noise.shape) == ((5,), (5, 4, 2, 2))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_weighted_error_is_that_of_x0_by_its_snr_at_most(prediction):
    """Of two outputs that differ by `error`, the estimates of x0 differ as the weight says."""
    schedule = Schedule(prediction)
    sigma = schedule.timestep_to_sigma(torch.tensor([0, 100, 400, 700, 998]))
    x, output, error = torch.randn(3, 5, 4, 8, 8, generator=CPU.generator(0, 0), dtype=torch.float64)
    first, second = (schedule.output_to_denoised(out, x, sigma.double()) for out in (output, output + error))
    signal = schedule.picture_scale(sigma).double()
    expected = (first - second).square().mean(dim=(1, 2, 3)) * (signal / sigma.double()).square().clamp_max(5)
    weight = snr_weight(schedule, sigma, 5.0)
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight.double() * error.square().mean(dim=(1, 2, 3)), expected, rtol=1e-4, atol=0)


def test_weights_are_the_papers():
    sigma = torch.tensor([0.1, 0.5, 1.0, 10.0])
    snr = sigma**-2
    capped = snr.clamp_max(5)
    torch.testing.assert_close(snr_weight(Schedule("v"), sigma, 5.0), capped / (snr + 1))
    torch.testing.assert_close(snr_weight(Schedule("eps"), sigma, 5.0), capped / snr)
    # as noise alone, a flow's output says nothing of the picture that could be weighed
    assert snr_weight(Schedule("flow"), torch.tensor([1.0, 0.5]), 5.0).tolist() == [0.0, 0.25]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_without_gamma_all_levels_weigh_alike(prediction):
    assert snr_weight(Schedule(prediction), torch.tensor([0.1, 0.9]), None).tolist() == [1.0, 1.0]


def test_a_network_elsewhere_is_borrowed_and_one_here_is_not_copied():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), torch.nn.BatchNorm2d(2))
    before = copy.deepcopy(network.state_dict())
    assert CPU.borrow(network) is network
    borrowed = META.borrow(network)
    assert {value.device.type for value in borrowed.state_dict().values()} == {"meta"}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(weight.requires_grad for weight in borrowed.parameters())
