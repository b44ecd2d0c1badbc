"""The codebook: every pair of levels against the papers' formulas, and its refusals."""

import math

import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.schedule import Schedule
from tests.oracles import REFERENCES, euler_ancestral_flow

SIGMAS = Schedule().build_sigmas(6)
FLOW = Schedule("flow")
PAIRS = [(start, target) for target in range(1, 7) for start in range(target)]
SOLVERS = [
    ("ddpm", 1.0),
    ("ddim", 0.0),
    ("ddim", 0.4),
    ("ddim", 1.0),
    ("euler", 0.0),
    ("euler_ancestral", 1.0),
    ("euler_ancestral", 0.5),
    ("dpmpp_2m", 0.0),
]


def probe(step, sigma, sigma_next, eta):
    """The coefficients of x, denoised and noise in one jump of a reference loop, which is linear in them."""
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def jump(x, denoised, noise):
        return float(step(lambda *_: denoised, x, [sigma, sigma_next], lambda _: noise, eta))

    return jump(one, zero, zero), jump(zero, one, zero), jump(zero, zero, one)


def entries(book, start, target):
    return tuple(float(table[start, target]) for table in (book.c_x, book.c_denoised, book.c_noise))


@pytest.mark.parametrize(("solver", "eta"), SOLVERS)
def test_every_jump_is_one_step_of_the_reference(solver, eta):
    book = build_codebook(SIGMAS, solver, eta)
    exact = SIGMAS.double().tolist()
    for start, target in PAIRS:
        expected = probe(REFERENCES[solver], exact[start], exact[target], eta)
        assert entries(book, start, target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_ancestral_jump_of_a_flow_model_is_the_hosts(eta):
    sigmas = FLOW.build_sigmas(6)
    book = build_codebook(sigmas, "euler_ancestral", eta, FLOW)
    exact = sigmas.double().tolist()
    for start, target in PAIRS:
        expected = probe(euler_ancestral_flow, exact[start], exact[target], eta)
        assert entries(book, start, target) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("schedule", [Schedule(), FLOW], ids=["v", "flow"])
@pytest.mark.parametrize("solver", REFERENCES)
def test_jumps_keep_the_schedules_promise(solver, schedule):
    """x = scale * x0 + sigma * noise goes to the same at the target: exact in x0, and in variance if noise is white."""
    sigmas = schedule.build_sigmas(6)
    book = build_codebook(sigmas, solver, schedule=schedule)
    exact = sigmas.double()
    scale = schedule.picture_scale(exact)
    for start, target in PAIRS:
        c_x, c_denoised, c_noise = entries(book, start, target)
        assert c_x * scale[start] + c_denoised == pytest.approx(float(scale[target]), abs=1e-12)
        assert math.hypot(c_x * exact[start], c_noise) == pytest.approx(float(exact[target]), abs=1e-12)


@pytest.mark.parametrize("schedule", [Schedule(), FLOW], ids=["v", "flow"])
@pytest.mark.parametrize("solver", REFERENCES)
def test_tables_are_finite_and_the_last_jump_is_the_estimate(solver, schedule):
    book = build_codebook(schedule.build_sigmas(9), solver, schedule=schedule)
    for table in (book.c_x, book.c_denoised, book.c_noise, book.c_ahead, book.log_sigma):
        assert table.dtype == torch.float64
        assert table.isfinite().all()
    assert torch.equal(book.c_x[:-1, -1], torch.zeros(9, dtype=torch.float64))
    assert torch.equal(book.c_denoised[:-1, -1], torch.ones(9, dtype=torch.float64))
    assert torch.equal(book.c_noise[:-1, -1], torch.zeros(9, dtype=torch.float64))
    assert book.steps == 9


def test_ddpm_is_ddim_with_eta_1_and_euler_is_ddim_without():
    for name, eta in (("ddpm", 1.0), ("euler", 0.0)):
        book, other = build_codebook(SIGMAS, name), build_codebook(SIGMAS, "ddim", eta)
        assert torch.equal(book.c_x, other.c_x)
        assert torch.equal(book.c_noise, other.c_noise)


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_solvers_without_noise_have_no_eta(solver):
    book, other = build_codebook(SIGMAS, solver, 0.7), build_codebook(SIGMAS, solver)
    assert torch.equal(book.c_x, other.c_x)
    assert not book.is_stochastic


def test_flags_say_what_a_solver_needs():
    flags = {name: build_codebook(SIGMAS, name) for name in REFERENCES}
    assert {name for name, book in flags.items() if book.is_stochastic} == {"ddpm", "euler_ancestral"}
    assert {name for name, book in flags.items() if book.second_order} == {"dpmpp_2m"}
    assert build_codebook(SIGMAS, "ddim", 0.1).is_stochastic
    assert not build_codebook(SIGMAS, "ddpm", 0.0).is_stochastic
    assert {name for name, book in flags.items() if book.look_ahead().needs_before} == {"ddim", "euler", "dpmpp_2m"}
    assert {name for name, book in flags.items() if book.needs_before} == {"dpmpp_2m"}


def test_moving_to_a_device_keeps_everything():
    book = build_codebook(SIGMAS, "dpmpp_2m").look_ahead()
    moved = book.to(torch.device("cpu"))
    assert torch.equal(moved.c_x, book.c_x)
    assert torch.equal(moved.c_ahead, book.c_ahead)
    assert moved.looks_ahead
    assert moved.c_x.dtype == torch.float64
    assert (moved.second_order, moved.is_stochastic) == (True, False)


@pytest.mark.parametrize(
    ("sigmas", "settings", "message"),
    [
        ([2.0, 1.0, 0.0], {"solver": "heun"}, "heun"),
        ([2.0, 1.0, 0.0], {"solver": "ddim", "eta": 1.5}, "eta"),
        ([2.0, 1.0, 0.0], {"solver": "ddim", "eta": float("nan")}, "eta"),
        ([2.0, 1.0], {}, "sigmas"),
        ([0.0], {}, "sigmas"),
        ([1.0, 1.0, 0.0], {}, "sigmas"),
        ([1.0, 2.0, 0.0], {}, "sigmas"),
        ([float("nan"), 1.0, 0.0], {}, "sigmas"),
        ([[2.0, 0.0]], {}, "sigmas"),
    ],
)
def test_impossible_codebooks_are_refused(sigmas, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_codebook(torch.tensor(sigmas), **settings)
