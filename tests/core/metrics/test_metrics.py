"""Quality metrics: known values, invariants, refusals."""

import math
import sys
from pathlib import Path

import pytest
import tomllib
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.errors import CheckpointError, ConfigError, MissingExtraError, ShapeError
from adadiffsr_core.metrics.base import CheckedMetric, MetricInfo, normalise_metrics
from adadiffsr_core.metrics.rating import rate_images
from adadiffsr_core.metrics.registry import create_metric, metric_info, metric_names

COMPUTED = ("ssim", "ms_ssim", "nlpd", "vsi", "fsim", "gmsd", "piqe")  # no weights at all
CPU = torch.device("cpu")
PYPROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
IQA_REASON = "the extra `iqa` is not installed"


def picture(size=192, seed=0, count=1):
    """Smooth structure with some noise, so that every metric is defined."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    coarse = torch.nn.functional.interpolate(noise[..., :12, :12], size=(size, size), mode="bicubic")
    return (0.8 * coarse + 0.2 * noise).clamp(0, 1)


def blur(image):
    return torch.nn.functional.avg_pool2d(image, 7, stride=1, padding=3, count_include_pad=False)


def load(name):
    if not name.startswith("psnr"):
        pytest.importorskip("stlpips_pytorch" if name == "st_lpips" else "pyiqa", reason=IQA_REASON)
    return create_metric(name)


def test_psnr_equals_hand_computation():
    reference = torch.full((2, 3, 4, 5), 0.5)
    image = torch.stack((reference[0] + 0.1, reference[1]))
    image[1, 0, 0, 0] += 0.3
    expected = [-10 * math.log10(0.01), -10 * math.log10(0.09 / 60)]
    torch.testing.assert_close(load("psnr")(image, reference), torch.tensor(expected))


def test_psnr_of_equal_images_is_100():
    assert load("psnr")(picture(8), picture(8)).tolist() == [100.0]


def test_psnr_y_weighs_channels_as_bt601():
    reference = torch.full((3, 3, 4, 4), 0.2)
    image = reference.clone()
    for channel in range(3):
        image[channel, channel] += 0.1
    weights = torch.tensor([65.481, 128.553, 24.966]) / 255
    torch.testing.assert_close(load("psnr_y")(image, reference), -20 * (0.1 * weights).log10())


@pytest.mark.parametrize("name", ["psnr", "psnr_y", "st_lpips", *COMPUTED[:-1]])
def test_full_reference_metric_knows_its_direction_and_best(name):
    metric, truth = load(name), picture()
    perfect, blurred = metric(truth, truth), metric(blur(truth), truth)
    assert (perfect > blurred).item() == metric.info.higher_is_better
    if not name.startswith("psnr"):
        torch.testing.assert_close(perfect, torch.tensor([float(metric.info.best)]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["psnr", "st_lpips", *COMPUTED])
def test_batch_equals_separate_images(name):
    metric, truth = load(name), picture(count=2)
    image = blur(truth)
    separate = [metric(image[n : n + 1], truth[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(metric(image, truth), torch.cat(separate), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["psnr", "st_lpips", "nlpd"])
def test_values_can_be_targets_of_a_loss(name):
    target = load(name)(blur(picture(64)), picture(64))
    guess = torch.zeros(1, requires_grad=True)
    torch.nn.functional.mse_loss(guess * target, target).backward()
    assert target.shape == (1,)
    assert target.dtype == torch.float32
    assert guess.grad is not None


def test_st_lpips_equals_its_authors_forward(capsys):
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips", reason=IQA_REASON)
    metric, truth = create_metric("st_lpips"), picture(96, count=2)
    assert capsys.readouterr() == ("", "")
    original = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    with torch.no_grad():
        expected = original(blur(truth), truth, normalize=True).flatten()
    torch.testing.assert_close(metric(blur(truth), truth), expected, atol=1e-6, rtol=1e-5)


def test_st_lpips_serves_as_a_loss_with_features_computed_once():
    pytest.importorskip("stlpips_pytorch", reason=IQA_REASON)
    from adadiffsr_core.metrics.st_lpips import StLpips

    model, truth = StLpips().train(), picture(48)  # train(): a parent module in training must change nothing
    image = blur(truth).requires_grad_()
    distance = model.compare(model.features(image), model.features(truth))
    torch.testing.assert_close(distance, model(image, truth))
    distance.sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pyiqa_metric_is_silent(capsys):
    load("nlpd")(picture(32), picture(32, seed=1))
    assert capsys.readouterr() == ("", "")


def test_no_reference_metric_ignores_the_reference():
    metric = load("piqe")
    assert metric(picture(64), picture(32)).equal(metric(picture(64)))


def test_undefined_value_is_nan_and_spoils_no_other():
    metric, image = load("piqe"), picture(64)
    values = metric(torch.cat((torch.zeros_like(image), image)))
    assert values[0].isnan()
    torch.testing.assert_close(values[1:], metric(image))


@given(st.sampled_from(metric_names()), st.lists(st.floats(-200, 200), min_size=2, max_size=8))
def test_normalised_quality_is_bounded_and_monotonic(name, numbers):
    info = metric_info(name)
    values = torch.tensor(numbers, dtype=torch.float64).sort().values
    quality = normalise_metrics(values[:, None], (info.worst,), (info.best,))[:, 0]
    assert bool(((quality >= 0) & (quality <= 1)).all())
    steps = quality.diff() if info.higher_is_better else -quality.diff()
    assert bool((steps >= 0).all())


@pytest.mark.parametrize("name", metric_names())
def test_normalised_quality_is_linear_from_worst_to_best(name):
    info = metric_info(name)
    values = torch.tensor([info.worst, 0.75 * info.worst + 0.25 * info.best, info.best])
    quality = normalise_metrics(values[:, None], (info.worst,), (info.best,))[:, 0]
    torch.testing.assert_close(quality, torch.tensor([0.0, 0.25, 1.0]))


@pytest.mark.parametrize(("higher_is_better", "worst", "best"), [(True, 1, 0), (False, 0, 1), (True, 1, 1)])
def test_info_refuses_a_range_against_its_direction(higher_is_better, worst, best):
    with pytest.raises(ConfigError, match="worst"):
        MetricInfo("m", True, higher_is_better, worst, best)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.rand(3, 8, 8), r"shape \[N,3,H,W\], got 3x8x8"),
        (torch.rand(1, 1, 8, 8), r"shape \[N,3,H,W\], got 1x1x8x8"),
        (torch.rand(0, 3, 8, 8), r"shape \[N,3,H,W\], got 0x3x8x8"),
        (torch.rand(1, 3, 0, 8), "at least 1 px"),
        (torch.full((1, 3, 8, 8), math.nan), "got nan"),
        (torch.full((1, 3, 8, 8), 1.1), r"values in \[0,1\]"),
        (torch.full((1, 3, 8, 8), 7, dtype=torch.uint8), "divide 8-bit levels by 255"),
    ],
)
def test_unusable_image_is_refused_on_either_side(image, sentence):
    metric = create_metric("psnr")
    with pytest.raises(ShapeError, match=f"the image for psnr.*{sentence}"):
        metric(image, image)
    if image.shape == (1, 3, 8, 8):
        with pytest.raises(ShapeError, match=f"the reference for psnr.*{sentence}"):
            metric(torch.rand(1, 3, 8, 8), image)


def test_reference_is_demanded_and_must_fit():
    with pytest.raises(ConfigError, match="give a reference"):
        create_metric("psnr")(picture(8))
    with pytest.raises(ShapeError, match="1x3x8x8 and reference 1x3x9x9"):
        create_metric("psnr")(picture(8)[..., :8, :8], picture(9))


@pytest.mark.parametrize("name", ["st_lpips", *COMPUTED])
def test_smallest_side_works_and_one_less_is_refused(name):
    metric = load(name)
    smallest = picture(metric.min_side)
    assert metric(blur(smallest), smallest).isfinite().all()
    with pytest.raises(ShapeError, match=f"at least {metric.min_side} px"):
        metric(smallest[..., 1:], smallest[..., 1:])


def test_unknown_name_is_refused_with_the_choice():
    with pytest.raises(ConfigError, match="no metric pnsr; choose from psnr"):
        create_metric("pnsr")


@pytest.mark.parametrize(
    ("name", "module", "package"), [("st_lpips", "stlpips_pytorch", "stlpips-pytorch"), ("ssim", "pyiqa", "pyiqa")]
)
def test_missing_package_is_named_as_pip_knows_it(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"^{name} needs packages .*; run `pip install {package}\b.*ComfyUI"):
        create_metric(name)


def test_the_extra_brings_what_the_sentences_ask_for():
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]["iqa"]
    brought = {requirement.partition(">")[0] for requirement in extras}
    assert brought == {"pyiqa", "stlpips-pytorch", "ipython", "torchsummary"}


def test_rating_is_the_mean_and_says_each_value():
    image, reference = picture(8, count=2), picture(8, seed=1, count=2)
    values = create_metric("psnr")(image, reference).tolist()
    mean, text = rate_images(create_metric("psnr"), image, reference)
    assert mean == pytest.approx(sum(values) / 2)
    assert text == f"psnr: {mean:.4f} ({values[0]:.4f}, {values[1]:.4f}), higher is better"
    assert rate_images(create_metric("psnr"), image[:1], reference[:1])[1] == f"psnr: {values[0]:.4f}, higher is better"


def test_rating_clamps_as_saving_does_and_refuses_what_is_no_number():
    image, reference = picture(8), picture(8, seed=1)
    wild = image * 3 - 1
    assert rate_images(create_metric("psnr"), wild, reference) == rate_images(
        create_metric("psnr"), wild.clamp(0, 1), reference
    )
    for value in (torch.nan, torch.inf):
        for pair in ((image * value, reference), (image, reference * value), (image * value, image * value)):
            with pytest.raises(ShapeError, match="NaN or infinity"):
                rate_images(create_metric("psnr"), *pair)


def test_rating_names_the_image_for_which_a_metric_is_undefined():
    info = MetricInfo("texture", False, True, 0, 1)
    metric = CheckedMetric(info, lambda image, _: image.std(dim=(1, 2, 3)).log().nan_to_num(neginf=torch.nan), 1, CPU)
    image = torch.cat((picture(8), torch.full((1, 3, 8, 8), 0.5)))
    with pytest.raises(ShapeError, match="texture is undefined for image 2 of 2"):
        rate_images(metric, image)


def test_psnr_needs_no_extra(monkeypatch):
    for package in ("pyiqa", "stlpips_pytorch", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    assert create_metric("psnr")(picture(8), picture(8)).shape == (1,)


@pytest.mark.parametrize(
    ("name", "file"), [("niqe", "niqe_modelparameters.mat"), ("brisque", "brisque_svm_weights.pth")]
)
def test_damaged_weights_are_refused(name, file, tmp_path):
    pytest.importorskip("pyiqa", reason=IQA_REASON)
    (tmp_path / file).write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=f"{file} is damaged"):
        create_metric(name, weights_folder=tmp_path)


@pytest.mark.parametrize("name", ["niqe", "brisque", "musiq"])
def test_weights_that_cannot_be_had_are_named_with_their_place(name, tmp_path, monkeypatch):
    pytest.importorskip("pyiqa", reason=IQA_REASON)
    from pyiqa.utils import download_util

    def unreachable(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(download_util, "download_url_to_file", unreachable)
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(CheckpointError, match=rf"needs the weights (\S+), which .* put that file at {tmp_path}/\1"):
        create_metric(name, weights_folder=tmp_path / "empty")
