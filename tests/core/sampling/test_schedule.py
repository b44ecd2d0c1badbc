"""Noise levels: Stable Diffusion's numbers, round trips, and outputs that mean what they should."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.sampling.schedule import Schedule

PREDICTIONS = ["eps", "v", "flow"]
ALL_TIMESTEPS = torch.arange(1000)


def naive_sigma(timestep):
    """Stable Diffusion's scaled-linear betas, one product at a time."""
    bar = 1.0
    for t in range(timestep + 1):
        bar *= 1 - (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999) ** 2
    return math.sqrt((1 - bar) / bar)


def levels(schedule):
    return schedule.timestep_to_sigma(torch.tensor([0.0, 20.0, 500.0, 999.0]))


def test_sigmas_are_stable_diffusions():
    sigmas = Schedule("eps").timestep_to_sigma(ALL_TIMESTEPS)
    assert sigmas[[0, 1, 499, 999]].tolist() == pytest.approx([naive_sigma(t) for t in (0, 1, 499, 999)], rel=1e-6)
    assert [round(float(sigmas[t]), 4) for t in (0, 999)] == [0.0292, 14.6146]  # what every SD front end shows
    assert Schedule("eps").sigma_max == pytest.approx(float(sigmas[999]), rel=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_timesteps_come_back_from_sigmas(prediction):
    schedule = Schedule(prediction)
    assert torch.equal(schedule.sigma_to_timestep(schedule.timestep_to_sigma(ALL_TIMESTEPS)), ALL_TIMESTEPS.float())


def test_sigma_to_timestep_takes_the_nearest_in_log_sigma():
    schedule = Schedule()
    logs = [math.log(naive_sigma(t)) for t in range(3)]
    for share, nearest in ((0.4, 1.0), (0.6, 2.0)):
        sigma = math.exp(logs[1] + share * (logs[2] - logs[1]))
        assert schedule.sigma_to_timestep(torch.tensor([sigma])).tolist() == [nearest]


def test_fractional_timesteps_interpolate_log_sigma():
    schedule = Schedule()
    low, middle, high = schedule.timestep_to_sigma(torch.tensor([300.0, 300.25, 301.0])).log().tolist()
    assert middle == pytest.approx(low + 0.25 * (high - low), abs=1e-6)


def test_flow_sigma_is_a_thousandth_of_the_timestep_the_network_is_shown():
    schedule = Schedule("flow")
    assert schedule.timestep_to_sigma(torch.tensor([0.0, 999.0])).tolist() == pytest.approx([0.001, 1.0])
    assert schedule.sigma_to_timestep(torch.tensor([0.25, 1.0])).tolist() == [250.0, 1000.0]
    assert schedule.sigma_max == 1.0


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_training_target_stands_for_x0(prediction):
    schedule = Schedule(prediction)
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 4, 4, 6, 6, generator=generator, dtype=torch.float64)
    sigma = levels(schedule).double()
    x = schedule.add_noise(x0, noise, sigma)
    denoised = schedule.output_to_denoised(schedule.training_target(x0, noise, sigma), x, sigma)
    torch.testing.assert_close(denoised, x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_residual_is_denoised_where_the_picture_is_sampled(prediction):
    """The network meets the noisy residual, the sampler the noisy picture, and both the same noise."""
    schedule, plain = Schedule(prediction, "residual"), Schedule(prediction)
    generator = torch.Generator().manual_seed(0)
    x0, noise, lq = torch.randn(3, 4, 4, 6, 6, generator=generator, dtype=torch.float64)
    sigma = levels(schedule).double()
    x = schedule.add_noise(x0, noise, sigma)
    seen = plain.scale_input(plain.add_noise(x0 - lq, noise, sigma), sigma)
    torch.testing.assert_close(schedule.scale_input(x, sigma, lq), seen, rtol=0, atol=1e-12)
    output = schedule.training_target(x0, noise, sigma, lq)
    torch.testing.assert_close(output, plain.training_target(x0 - lq, noise, sigma), rtol=0, atol=1e-12)
    torch.testing.assert_close(schedule.output_to_denoised(output, x, sigma, lq), x0, rtol=0, atol=1e-12)
    for ask in (lambda: schedule.scale_input(x, sigma), lambda: schedule.training_target(x0, noise, sigma)):
        with pytest.raises(ShapeError, match="was given none"):
            ask()


def test_the_target_is_said_in_files_only_where_it_is_not_the_picture():
    assert Schedule("eps").to_dict() == {"prediction": "eps"}
    assert Schedule(**Schedule("v", "residual").to_dict()) == Schedule("v", "residual")
    with pytest.raises(ConfigError, match="target 'noise' is unknown; use one of picture, residual"):
        Schedule("v", "noise")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_network_sees_unit_variance(prediction):
    schedule = Schedule(prediction)
    x0, noise = torch.randn(2, 4, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    sigma = levels(schedule)
    shown = schedule.scale_input(schedule.add_noise(x0, noise, sigma), sigma)
    # A blend has (1 - s)^2 + s^2, between a half and one.
    expected = (1 - sigma) ** 2 + sigma**2 if prediction == "flow" else torch.ones(4)
    torch.testing.assert_close(shown.var(dim=(1, 2, 3)), expected, rtol=0.04, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_add_noise_is_x0_at_sigma_0(prediction):
    x0, noise = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Schedule(prediction).add_noise(x0, noise, torch.zeros(1)), x0)


def test_start_is_the_hosts():
    latent, noise = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    schedule = Schedule("eps")
    top = float(schedule.build_sigmas(7)[0])
    torch.testing.assert_close(schedule.start(latent, noise, top), latent + noise * math.sqrt(1 + top**2))
    torch.testing.assert_close(schedule.start(latent, noise, 3.0), latent + noise * 3.0)
    assert torch.equal(Schedule("flow").start(latent, noise, 1.0), noise)
    torch.testing.assert_close(Schedule("flow").start(latent, noise, 0.25), 0.75 * latent + 0.25 * noise)


def test_200_steps_take_every_fifth_timestep():
    schedule = Schedule()
    sigmas = schedule.build_sigmas(200)
    assert schedule.sigma_to_timestep(sigmas[:-1]).tolist() == list(range(999, 0, -5))
    assert sigmas[-1] == 0


@given(
    prediction=st.sampled_from(PREDICTIONS),
    spacing=st.sampled_from(["uniform", "karras"]),
    steps=st.integers(1, 60),
    denoise=st.floats(0.06, 1.0),
)
def test_sigmas_fall_to_zero_and_low_denoise_takes_the_tail(prediction, spacing, steps, denoise):
    schedule = Schedule(prediction)
    sigmas = schedule.build_sigmas(steps, spacing, denoise)
    assert sigmas.dtype == torch.float32
    assert len(sigmas) == steps + 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    whole = schedule.build_sigmas(int(steps / denoise), spacing)
    assert torch.equal(sigmas, whole[-(steps + 1) :])
    assert whole[0] == pytest.approx(schedule.sigma_max, rel=1e-5)


def test_karras_is_the_published_formula():
    schedule = Schedule()
    low, high = (float(schedule.timestep_to_sigma(torch.tensor([t]))[0]) ** (1 / 7) for t in (0.0, 999.0))
    expected = [(high + i / 9 * (low - high)) ** 7 for i in range(10)] + [0]
    assert schedule.build_sigmas(10, "karras").tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"steps": 10, "denoise": 0.0}, "denoise"),
        ({"steps": 10, "denoise": 1.1}, "denoise"),
        ({"steps": 10, "denoise": float("nan")}, "denoise"),
        ({"steps": 600, "denoise": 0.5}, "1200 steps"),
        ({"steps": 10, "spacing": "cosine"}, "cosine"),
    ],
)
def test_impossible_schedules_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Schedule().build_sigmas(**values)


def test_unknown_prediction_is_refused():
    with pytest.raises(ConfigError, match="x0"):
        Schedule("x0")
