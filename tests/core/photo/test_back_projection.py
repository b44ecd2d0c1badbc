"""What a sharp photograph holds stays; what a model was asked to mend is not undone."""

from random import Random

import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.photo import back_projection
from adadiffsr_core.photo.back_projection import MARGIN, Part, back_project, back_project_rows, projection_needs
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


@pytest.mark.parametrize("scale", [1, 2])
def test_what_a_sharp_photograph_holds_comes_back(truth, scale):
    truth = reduce(truth, (scale * SIDE, scale * SIDE))
    photo = reduce(truth, (SIDE, SIDE))
    painted = (truth + enlarge_error(noise(1, 3, SIDE, SIDE, strength=0.01), scale)).clamp(0, 1)
    made = back_project(painted, photo)
    assert error(reduce(made, (SIDE, SIDE)), photo) < 0.1 * error(reduce(painted, (SIDE, SIDE)), photo)
    assert error(made, truth) < 0.5 * error(painted, truth)


def enlarge_error(wrong, scale):
    return F.interpolate(wrong, scale_factor=scale, mode="bicubic")


@pytest.mark.parametrize("scale", [1, 2])
def test_a_blurred_photograph_takes_nothing_back(truth, scale):
    """To the bit: the result has far more contrast in its finest detail than the photograph."""
    truth = reduce(truth, (scale * SIDE, scale * SIDE))
    photo = blur(reduce(truth, (SIDE, SIDE)), 2)
    assert torch.equal(back_project(truth, photo), truth)


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_noise_on_something_smooth_is_not_put_back(strength):
    smooth = torch.linspace(0.2, 0.8, 2 * SIDE).expand(1, 3, 2 * SIDE, 2 * SIDE).contiguous()
    photo = (reduce(smooth, (SIDE, SIDE)) + noise(1, 3, SIDE, SIDE, strength=strength)).clamp(0, 1)
    assert torch.equal(back_project(smooth, photo), smooth)


def test_each_place_is_judged_by_itself(truth):
    """A sharp thing before a blurred ground: the one is kept, of the other nothing is undone."""
    photo = reduce(truth, (SIDE, SIDE))
    photo[..., SIDE // 2 :] = blur(photo, 3)[..., SIDE // 2 :]
    painted = (truth + enlarge_error(noise(1, 3, SIDE, SIDE, strength=0.01), 2)).clamp(0, 1)
    made, seam = back_project(painted, photo), 2 * MARGIN
    assert torch.equal(made[..., SIDE + seam :], painted[..., SIDE + seam :])
    left = (..., slice(0, SIDE - seam))
    assert error(made[left], truth[left]) < 0.5 * error(painted[left], truth[left])


def test_each_picture_is_judged_by_itself(truth):
    photo = reduce(truth, (SIDE, SIDE))
    painted = (truth + noise(1, 3, 2 * SIDE, 2 * SIDE, strength=0.01)).clamp(0, 1)
    photos, results = torch.cat([photo, blur(photo, 2)]), torch.cat([painted, truth])
    made = back_project(results, photos)
    assert torch.equal(made[:1], back_project(painted, photo))
    assert torch.equal(made[1:], truth)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (17, 3), (40, 64)])
@pytest.mark.parametrize("scale", [1, 1.5, 2])
def test_a_result_that_agrees_changes_little(size, scale):
    photo = 0.5 + noise(2, 3, *size, strength=0.1)
    large = tuple(round(side * scale) for side in size)
    result = enlarge(photo.clamp(0, 1), large)
    made = back_project(result, photo.clamp(0, 1))
    assert made.shape == result.shape
    assert bool(((made >= 0) & (made <= 1)).all())
    wrong = (reduce(result, size) - photo.clamp(0, 1)).abs().max()
    assert float((made - result).abs().max()) <= 2 * float(wrong) + 1e-6


@pytest.mark.parametrize(("height", "after"), [(90, 180), (90, 90), (77, 131), (64, 170), (40, 41)])
@pytest.mark.parametrize("seed", range(4))
def test_a_part_is_projected_as_in_the_whole(height, after, seed, monkeypatch):
    """To the bit: bands rely on it."""
    monkeypatch.setattr(back_projection, "_ALIKE", (-0.6, 0.6))
    monkeypatch.setattr(back_projection, "_SHARPENED", (3.0, 0.1))
    generator = torch.Generator().manual_seed(seed)
    photo, result = (torch.rand(1, 3, *size, generator=generator) for size in ((height, 20), (after, 33)))
    whole = back_project(result, photo)
    assert not torch.equal(whole, result)
    first = Random(seed).randrange(after)
    rows = (first, Random(-1 - seed).randrange(first, after) + 1)
    top, bottom = projection_needs(height, after, rows)
    above, below = max(0, rows[0] * height // after - MARGIN), min(height, -(-rows[1] * height // after) + MARGIN)
    part = back_project_rows(
        Part(result[..., top:bottom, :], top, (after, 33)), Part(photo[..., above:below, :], above, (height, 20)), rows
    )
    assert torch.equal(part, whole[..., rows[0] : rows[1], :])
