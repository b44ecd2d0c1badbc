"""Jumps: one place by any route for a point mass, mixed batches, the second-order correction, and looking ahead."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.solver import Before, Jump, take_jump
from tests.oracles import REFERENCES

STEPS = 24
FIRST_ORDER = ["ddim", "euler"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def books(solver, prediction="v", steps=STEPS):
    schedule = Schedule(prediction)
    return build_codebook(schedule.build_sigmas(steps), solver, schedule=schedule), schedule


def index(*values):
    return torch.tensor(values)


def follow(book, x, mu, route, noise=None):
    """Jump along base indices with `denoised = mu`."""
    before = Before(x, torch.tensor([-1]))
    for start, target in zip(route[:-1], route[1:], strict=True):
        here, there = torch.tensor([start]), torch.tensor([target])
        fresh = None if noise is None else noise[target : target + 1]
        x, before = take_jump(book, x, mu, Jump(here, there), fresh, before), Before(mu, here)
    return x


@settings(max_examples=60)
@given(
    solver=st.sampled_from([*FIRST_ORDER, "dpmpp_2m"]),
    prediction=st.sampled_from(["v", "flow"]),
    stops=st.sets(st.integers(1, STEPS - 1)),
    end=st.integers(1, STEPS),
    looks_ahead=st.booleans(),
)
def test_a_point_mass_is_where_it_should_be_by_any_route(solver, prediction, stops, end, looks_ahead):
    book, schedule = books(solver, prediction)
    book = book.look_ahead() if looks_ahead else book
    mu, noise = draw(2, 1, 4, 3, 3)
    exact = book.sigmas.double()
    route = [0, *sorted(stop for stop in stops if stop < end), end]
    x = follow(book, schedule.add_noise(mu, noise, exact[:1]), mu, route)
    expected = schedule.add_noise(mu, noise, exact[end : end + 1])
    torch.testing.assert_close(x, expected, rtol=1e-14, atol=1e-15 if end == STEPS else 1e-14)


@settings(max_examples=30)
@given(
    solver=st.sampled_from(list(REFERENCES)),
    prediction=st.sampled_from(["v", "flow"]),
    stops=st.sets(st.integers(1, STEPS - 1)),
)
def test_any_solver_lands_on_the_point_mass_to_the_bit(solver, prediction, stops):
    book, schedule = books(solver, prediction)
    mu, start = draw(2, 1, 4, 3, 3)
    noise = draw(STEPS + 1, 4, 3, 3, seed=1)
    x = schedule.add_noise(mu, start, book.sigmas.double()[:1])
    assert torch.equal(follow(book, x, mu, [0, *sorted(stops), STEPS], noise), mu)


@pytest.mark.parametrize("looks_ahead", [False, True])
@pytest.mark.parametrize("solver", REFERENCES)
def test_a_mixed_batch_is_its_items_one_by_one(solver, looks_ahead):
    book, _ = books(solver)
    book = book.look_ahead() if looks_ahead else book
    x, denoised, noise, previous = draw(4, 5, 4, 3, 3)
    start, target = torch.tensor([0, 3, 20, 7, 22]), torch.tensor([1, 9, 24, 8, 23])
    previous_start = torch.tensor([-1, 1, 17, 6, 21])

    def jump(rows):
        before = Before(previous[rows], previous_start[rows])
        return take_jump(book, x[rows], denoised[rows], Jump(start[rows], target[rows]), noise[rows], before)

    together, alone = jump(slice(None)), [jump(slice(i, i + 1)) for i in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_second_order_corrects_by_the_change_since_the_jump_before():
    book, _ = books("dpmpp_2m")
    x, denoised, previous = draw(3, 1, 4, 3, 3)
    first, here, there = (torch.tensor([i]) for i in (2, 6, 9))
    sigma_first, sigma, sigma_next = (float(book.sigmas[i]) for i in (2, 6, 9))
    r = torch.tensor(sigma_first / sigma).log() / torch.tensor(sigma / sigma_next).log()
    slope = denoised + (denoised - previous) / (2 * r)
    expected = sigma_next / sigma * x + (1 - sigma_next / sigma) * slope
    corrected = take_jump(book, x, denoised, Jump(here, there), None, Before(previous, first))
    torch.testing.assert_close(corrected, expected, rtol=1e-6, atol=1e-6)
    plain = sigma_next / sigma * x + (1 - sigma_next / sigma) * denoised
    without = take_jump(book, x, denoised, Jump(here, there), None, Before(previous, torch.tensor([-1])))
    torch.testing.assert_close(without, plain, rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(
    solver=st.sampled_from([*FIRST_ORDER, "dpmpp_2m"]),
    prediction=st.sampled_from(["v", "flow"]),
    places=st.sets(st.integers(0, STEPS), min_size=3, max_size=3).map(sorted),
)
def test_looking_ahead_leads_where_the_base_steps_left_out_would(solver, prediction, places):
    """They are taken one by one with estimates that go on as they did between the last two evaluations."""
    book, _ = books(solver, prediction)
    first, here, there = places
    x, denoised, previous = draw(3, 1, 4, 3, 3)
    change = (denoised - previous) / (here - first)
    expected = x
    for step in range(here, there):
        estimates = (denoised + (step + more - here) * change for more in (0, -1))
        now, last = estimates
        expected = take_jump(
            book, expected, now, Jump(index(step), index(step + 1)), None, Before(last, index(step - 1))
        )
    ahead = take_jump(
        book.look_ahead(), x, denoised, Jump(index(here), index(there)), None, Before(previous, index(first))
    )
    torch.testing.assert_close(ahead, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", REFERENCES)
def test_a_first_jump_and_one_that_draws_noise_cannot_look_ahead(solver):
    book, _ = books(solver)
    x, denoised, noise, previous = draw(4, 1, 4, 3, 3)
    start = 5 if book.is_stochastic else -1
    jump, before = Jump(index(9), index(14)), Before(previous, index(start))
    plain, ahead = (take_jump(it, x, denoised, jump, noise, before) for it in (book, book.look_ahead()))
    assert torch.equal(plain, ahead)


@pytest.mark.parametrize("solver", REFERENCES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_last_jump_returns_the_estimate_to_the_bit_in_its_dtype(solver, dtype):
    book, _ = books(solver)
    x, denoised, noise, previous = (values.to(dtype) for values in draw(4, 2, 4, 3, 3))
    start = torch.tensor([20, 23])
    landed = take_jump(book, 14 * x, denoised, Jump(start, torch.full((2,), STEPS)), noise, Before(previous, start - 1))
    assert landed.dtype == dtype
    assert torch.equal(landed, denoised)


def test_a_flow_model_starts_from_pure_noise():
    for solver in REFERENCES:
        book, _ = books(solver, "flow", steps=4)
        assert float(book.sigmas[0]) == 1.0
        noise, mu, fresh = draw(3, 1, 4, 3, 3)
        x = take_jump(book, noise, mu, Jump(torch.tensor([0]), torch.tensor([2])), fresh)
        sigma = float(book.sigmas[2])
        blend = sigma * (fresh if solver == "ddpm" else noise) + (1 - sigma) * mu
        assert x.isfinite().all()
        if solver != "euler_ancestral":  # keeps a share of each
            torch.testing.assert_close(x, blend, rtol=1e-12, atol=1e-12)
