"""What a sharp photograph holds stays; what a model was asked to mend is not undone."""

from random import Random

import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.photo import back_projection
from adadiffsr_core.photo.back_projection import MARGIN, Part, back_project, back_project_rows
from adadiffsr_core.photo.enlarging import enlarge, reduce

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 96


def noise(*shape, seed=0, strength=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * strength


def blur(image, times=1):
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    for _ in range(times):
        padded = F.pad(image, [1] * 4, mode="replicate")
        image = F.conv2d(padded, (kernel[:, None] * kernel).expand(image.shape[1], 1, 3, 3), groups=image.shape[1])
    return image


@pytest.fixture
def truth():
    """A texture of all sizes `[1,3,2 SIDE,2 SIDE]`."""
    octaves = [F.interpolate(noise(1, 3, n, n, seed=n), size=2 * SIDE, mode="bicubic") for n in (6, 24, 96, 2 * SIDE)]
    return (0.5 + 0.08 * torch.stack(octaves).sum(0)).clamp(0, 1)


def error(image, other):
    return float((image - other).square().mean())


def spoil(image, seed=0):
    """By errors that a photograph of SIDE px can tell."""
    wrong = F.interpolate(noise(1, 3, SIDE, SIDE, seed=seed, strength=0.01), size=image.shape[-2:], mode="bicubic")
    return (image + wrong).clamp(0, 1)


@pytest.mark.parametrize("side", [SIDE, 130, 2 * SIDE])
def test_what_a_sharp_photograph_holds_comes_back(truth, side):
    """At whatever size between the photograph's and the one that was worked at."""
    photo, painted = reduce(truth, (SIDE, SIDE)), spoil(truth)
    made, wanted = back_project(painted, photo, (side, side)), reduce(truth, (side, side))
    assert error(made, wanted) < 0.5 * error(reduce(painted, (side, side)), wanted)
    if side == SIDE:
        assert error(made, photo) < 0.1 * error(reduce(painted, (side, side)), photo)


@pytest.mark.parametrize("side", [SIDE, 130, 2 * SIDE])
def test_a_blurred_photograph_takes_nothing_back(truth, side):
    """To the bit: the result has far more contrast in its finest detail than the photograph."""
    photo = blur(reduce(truth, (SIDE, SIDE)), 2)
    assert torch.equal(back_project(truth, photo, (side, side)), reduce(truth, (side, side)))


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_noise_on_something_smooth_is_not_put_back(strength):
    smooth = torch.linspace(0.2, 0.8, 2 * SIDE).expand(1, 3, 2 * SIDE, 2 * SIDE).contiguous()
    photo = (reduce(smooth, (SIDE, SIDE)) + noise(1, 3, SIDE, SIDE, strength=strength)).clamp(0, 1)
    assert torch.equal(back_project(smooth, photo, (2 * SIDE, 2 * SIDE)), smooth)


def test_each_place_is_judged_by_itself(truth):
    """A sharp thing before a blurred ground: the one is kept, of the other nothing is undone."""
    photo, painted = reduce(truth, (SIDE, SIDE)), spoil(truth)
    photo[..., SIDE // 2 :] = blur(photo, 3)[..., SIDE // 2 :]
    made, seam = back_project(painted, photo, (2 * SIDE, 2 * SIDE)), 2 * MARGIN
    assert torch.equal(made[..., SIDE + seam :], painted[..., SIDE + seam :])
    left = (..., slice(0, SIDE - seam))
    assert error(made[left], truth[left]) < 0.5 * error(painted[left], truth[left])


def test_each_picture_is_judged_by_itself(truth):
    photo, painted, size = reduce(truth, (SIDE, SIDE)), spoil(truth), (2 * SIDE, 2 * SIDE)
    made = back_project(torch.cat([painted, truth]), torch.cat([photo, blur(photo, 2)]), size)
    assert torch.equal(made[:1], back_project(painted, photo, size))
    assert torch.equal(made[1:], truth)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (17, 3), (40, 64)])
@pytest.mark.parametrize("scale", [1, 1.5, 2, 4])
def test_a_result_that_agrees_changes_little(size, scale):
    photo = (0.5 + noise(2, 3, *size, strength=0.1)).clamp(0, 1)
    worked = enlarge(photo, tuple(4 * side for side in size))
    wanted = tuple(round(side * scale) for side in size)
    made = back_project(worked, photo, wanted)
    assert made.shape[-2:] == wanted
    assert bool(((made >= 0) & (made <= 1)).all())
    wrong = (reduce(worked, size) - photo).abs().max()
    assert float((made - reduce(worked, wanted)).abs().max()) <= 2 * float(wrong) + 1e-6


@pytest.mark.parametrize(("height", "after", "worked"), [(90, 180, 360), (45, 45, 180), (77, 131, 308), (40, 41, 123)])
@pytest.mark.parametrize("seed", range(4))
def test_a_part_is_projected_as_in_the_whole(height, after, worked, seed, monkeypatch):
    """To the bit: bands rely on it."""
    monkeypatch.setattr(back_projection, "_ALIKE", (-0.6, 0.6))
    monkeypatch.setattr(back_projection, "_SHARPENED", (3.0, 0.1))
    generator = torch.Generator().manual_seed(seed)
    photo, image = (torch.rand(1, 3, *size, generator=generator) for size in ((height, 20), (worked, 80)))
    whole = back_project(image, photo, (after, 33))
    assert not torch.equal(whole, reduce(image, (after, 33)))
    first = Random(seed).randrange(after)
    rows = (first, Random(-1 - seed).randrange(first, after) + 1)
    top, bottom = max(0, rows[0] * height // after - MARGIN), min(height, -(-rows[1] * height // after) + MARGIN)
    above, below = top * worked // height, -(-bottom * worked // height)
    part = back_project_rows(
        Part(image[..., above:below, :], above, (worked, 80)),
        Part(photo[..., top:bottom, :], top, (height, 20)),
        (after, 33),
        rows,
    )
    assert torch.equal(part, whole[..., rows[0] : rows[1], :])
