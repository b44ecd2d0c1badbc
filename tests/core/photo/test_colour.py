import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.photo.colour import WAVELET_REACH, match_adain, match_colour, match_wavelet


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stablesr_low_pass(image, levels=4):
    """StableSR's wavelet_blur, level after level: a dilated 3 x 3 convolution over replicated edges."""
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=image.dtype)
    kernel = torch.outer(taps, taps).expand(image.shape[1], 1, 3, 3)
    for level in range(levels):
        radius = 2**level
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, groups=image.shape[1], dilation=radius)
    return image


def test_wavelet_equals_stablesr():
    image, reference = noise(2, 3, 50, 71), noise(2, 3, 50, 71, seed=1)
    expected = image - stablesr_low_pass(image) + stablesr_low_pass(reference)
    assert torch.allclose(match_wavelet(image, reference), expected, atol=2e-6)


def test_wavelet_takes_low_frequencies_from_the_reference_and_high_from_the_image():
    ramp = torch.linspace(0, 1, 256).expand(1, 3, 256, 256)
    checks = 0.1 * (-1.0) ** (torch.arange(256)[:, None] + torch.arange(256)).expand(1, 3, 256, 256)
    reference = torch.stack((ramp[:, 0], 1 - ramp[:, 1], 0.3 * ramp[:, 2]), 1)
    matched = match_wavelet(0.5 + checks, reference)
    inner = (..., slice(32, -32), slice(32, -32))
    assert torch.allclose(matched[inner], (reference + checks)[inner], atol=1e-4)


@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (0, 0, 1), (0.3, 0.7, 0.1)])
def test_what_is_plain_comes_back_as_it_is_whatever_was_drawn_there(colour):
    reference = torch.tensor(colour, dtype=torch.float32).reshape(1, 3, 1, 1).expand(1, 3, 60, 70)
    assert torch.allclose(match_wavelet(noise(1, 3, 60, 70), reference), reference, atol=1e-4)


def test_a_thing_on_a_plain_ground_keeps_its_detail_and_the_ground_stays_plain():
    reference, image = torch.full((1, 3, 160, 160), 0.8), 0.8 + 0.1 * (noise(1, 3, 160, 160) - 0.5)
    reference[..., 60:100, 60:100] = 0.2
    matched = match_wavelet(image, reference)
    plain = torch.ones(160, 160, dtype=torch.bool)
    plain[60 - WAVELET_REACH : 100 + WAVELET_REACH, 60 - WAVELET_REACH : 100 + WAVELET_REACH] = False
    assert torch.allclose(matched[..., plain], reference[..., plain], atol=1e-5)
    thing = (..., slice(60, 100), slice(60, 100))
    assert torch.allclose(matched[thing], (image + stablesr_low_pass(reference - image))[thing], atol=0.02)
    assert (matched - stablesr_low_pass(matched))[thing].std() > 0.9 * (image - stablesr_low_pass(image))[thing].std()


def test_a_slope_is_not_plain():
    reference = torch.linspace(0, 1, 200).expand(1, 3, 200, 200) / 16  # a level in 12 px
    image = reference + 0.01 * noise(1, 3, 200, 200)
    inner = (..., slice(40, 160), slice(40, 160))
    assert torch.allclose(match_wavelet(image, reference)[inner], (image + stablesr_low_pass(reference - image))[inner])


@pytest.mark.parametrize(("first", "last"), [(0, 40), (40, 90), (90, 150)])
def test_a_part_with_its_reach_is_matched_as_in_the_whole(first, last):
    """To the bit, also where only another part has anything plain: bands rely on it."""
    image, reference = noise(1, 3, 150, 60), noise(1, 3, 150, 60, seed=1)
    reference[..., :60, :] = 0.4
    top, bottom = max(0, first - WAVELET_REACH), min(150, last + WAVELET_REACH)
    part = match_wavelet(image[..., top:bottom, :], reference[..., top:bottom, :])
    whole = match_wavelet(image, reference)
    assert torch.equal(part[..., first - top : last - top, :], whole[..., first:last, :])


def test_a_pixel_hangs_on_nothing_beyond_its_reach():
    image, reference = noise(1, 3, 90, 90), 0.5 + noise(1, 3, 90, 90, seed=1) / 500  # so faint that detail is weighed
    before = match_wavelet(image, reference)[..., 45, 45]
    for other in (image, reference):
        outside = torch.ones(90, 90, dtype=torch.bool)
        outside[45 - WAVELET_REACH : 46 + WAVELET_REACH, 45 - WAVELET_REACH : 46 + WAVELET_REACH] = False
        other[..., outside] = 0
    assert torch.equal(match_wavelet(image, reference)[..., 45, 45], before)


@pytest.mark.parametrize("match", [match_wavelet, match_adain])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (17, 3), (40, 64)])
def test_match_with_itself_changes_nothing(match, size):
    image = noise(2, 3, *size)
    assert torch.allclose(match(image, image), image, atol=1e-6)


@pytest.mark.parametrize("match", [match_wavelet, match_adain])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (17, 3), (40, 64)])
def test_constant_shift_of_colour_is_undone(match, size):
    reference = noise(1, 3, *size)
    shift = torch.tensor([0.2, -0.1, 0.05]).reshape(1, 3, 1, 1)
    assert torch.allclose(match(reference + shift, reference), reference, atol=1e-6)


def test_adain_gives_mean_and_contrast_of_the_reference():
    image, reference = noise(2, 3, 40, 50), 0.2 + 0.5 * noise(2, 3, 40, 50, seed=1)
    matched = match_adain(image, reference)
    assert torch.allclose(matched.mean((2, 3)), reference.mean((2, 3)), atol=1e-6)
    assert torch.allclose(matched.std((2, 3)), reference.std((2, 3)), rtol=1e-3)


def test_adain_of_a_flat_image_is_the_reference_mean():
    reference = noise(1, 3, 8, 8)
    expected = reference.mean((2, 3), keepdim=True).expand_as(reference)
    assert torch.allclose(match_adain(torch.full_like(reference, 0.4), reference), expected, atol=1e-5)


@pytest.mark.parametrize("match", [match_wavelet, match_adain])
def test_result_does_not_depend_on_the_batch(match):
    image, reference = noise(4, 3, 33, 20), noise(4, 3, 33, 20, seed=1)
    alone = torch.cat([match(image[n : n + 1], reference[n : n + 1]) for n in range(4)])
    assert torch.equal(match(image, reference), alone)


@pytest.mark.parametrize("match", [match_wavelet, match_adain])
def test_inputs_are_left_alone_whatever_their_layout(match):
    image, reference = noise(2, 3, 33, 20), noise(2, 3, 33, 20, seed=1)
    expected, before = match(image, reference), (image.clone(), reference.clone())
    last = torch.channels_last
    assert torch.equal(match(image.to(memory_format=last), reference.to(memory_format=last)), expected)
    assert torch.equal(image, before[0])
    assert torch.equal(reference, before[1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2), (torch.float64, 1e-6)])
@pytest.mark.parametrize("match", [match_wavelet, match_adain])
def test_dtype_is_kept_and_computed_in_float32(match, dtype, tolerance):
    image, reference = noise(1, 3, 40, 40).to(dtype), noise(1, 3, 40, 40, seed=1)
    matched = match(image, reference)
    assert matched.dtype == dtype
    assert torch.allclose(matched.float(), match(image.float(), reference), atol=tolerance)


def test_match_colour_calls_the_named_method():
    image, reference = noise(1, 3, 20, 20), noise(1, 3, 20, 20, seed=1)
    assert torch.equal(match_colour(image, reference, "wavelet"), match_wavelet(image, reference))
    assert torch.equal(match_colour(image, reference, "adain"), match_adain(image, reference))
    assert match_colour(image, reference, "none") is image
    with pytest.raises(ConfigError, match="use wavelet, adain or none"):
        match_colour(image, reference, "lab")


@pytest.mark.parametrize("match", [match_wavelet, match_adain])
@pytest.mark.parametrize(
    ("shape", "other"),
    [((1, 3, 4, 4), (1, 3, 4, 5)), ((1, 3, 4, 4), (2, 3, 4, 4)), ((3, 4, 4), (3, 4, 4)), ((1, 1, 4, 4), (1, 1, 4, 4))],
)
def test_other_shapes_are_refused(match, shape, other):
    with pytest.raises(ShapeError, match=r"one shape \[N, 3, H, W\]"):
        match(torch.zeros(shape), torch.zeros(other))
