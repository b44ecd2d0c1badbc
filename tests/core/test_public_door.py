"""The public door refuses what no program can mean by a picture, in a sentence, and takes all that one can."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adadiffsr_core import PRESETS, AdaDiffSRError, Photo, load_model, read_photo, upscale, write_photo
from adadiffsr_core.photo.value import Notes
from tests.oracles import tiny_model

ONE = replace(PRESETS["everyday"], steps=1)
PIXELS = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
MASK = torch.ones(1, 1, 8, 12)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def enlarge(model, image=PIXELS, size=(32, 48), config=ONE, mask=None):
    return upscale(model, image, size, config, mask=mask).image


IMAGES = {
    "levels": ((PIXELS * 255).byte(), "divide levels by 255"),
    "whole numbers": ((PIXELS * 255).long(), "divide levels by 255"),
    "levels as fractions": (PIXELS * 255, "divide levels by 255"),
    "minus one to one": (PIXELS * 2 - 1, r"\(x \+ 1\) / 2"),
    "complex": (PIXELS.to(torch.complex64), "torch.complex64"),
    "an array": (PIXELS.numpy(), "must be a tensor, got array"),
    "nothing": (None, "must be a tensor, got None"),
    "a file": ("photo.jpg", "must be a tensor, got 'photo.jpg', a str"),
    "a photo": (Photo(pixels=PIXELS[0]), "a Photo"),
    "no memory": (PIXELS.to("meta"), "ordinary tensor, got one that is meta"),
    "sparse": (PIXELS.to_sparse(), "ordinary tensor"),
}


@pytest.mark.parametrize(("image", "words"), IMAGES.values(), ids=IMAGES)
def test_an_image_of_other_values_is_refused(image, words, model):
    with pytest.raises(AdaDiffSRError, match=words):
        enlarge(model, image)


SIZES = [None, 4, (64,), (64, 96, 3), (64.5, 96), "ab", (float("nan"), 4), (float("inf"), 4), ("32", "48"), (1j, 2)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_size_is_two_whole_numbers(size, model):
    with pytest.raises(AdaDiffSRError, match=r"a size must be \(height, width\) in whole px, got "):
        enlarge(model, size=size)


@pytest.mark.parametrize("size", [(10**9, 10**9), (10**6, 1), (2**63, 2), (2**18, 2**18)])
def test_a_size_that_fits_nowhere_is_refused_at_once(size, model):
    began = time.process_time()
    with pytest.raises(AdaDiffSRError, match=r"px a side fit|megapixels fit"):
        enlarge(model, size=size)
    assert time.process_time() - began < 1


WHOLE = {
    "list": [32, 48],
    "torch": torch.Size([32, 48]),
    "fractions": (32.0, 48.0),
    "a tensor": torch.tensor([32, 48]),
    "an array": np.array([32, 48]),
}


@pytest.mark.parametrize("size", WHOLE.values(), ids=WHOLE)
def test_whole_numbers_come_in_any_kind(size, model):
    assert torch.equal(enlarge(model, size=size), enlarge(model))


SAME = {
    "with gradients": PIXELS.clone().requires_grad_(),
    "in float64": PIXELS.double(),
    "not contiguous": PIXELS.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": PIXELS.contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("image", SAME.values(), ids=SAME)
def test_how_a_tensor_lies_in_memory_changes_no_picture(image, model):
    result = enlarge(model, image)
    assert torch.equal(result, enlarge(model))
    assert not result.requires_grad


def test_truth_values_are_black_and_white(model):
    assert torch.equal(enlarge(model, PIXELS > 0.5), enlarge(model, (PIXELS > 0.5).float()))


MASKS = {
    "an array": (MASK.numpy(), "a compute mask must be a tensor"),
    "a file": ("mask.png", "a compute mask must be a tensor"),
    "empty": (MASK[..., :0], "must be"),
    "complex": (MASK.to(torch.complex64), "complex64"),
    "no memory": (MASK.to("meta"), "ordinary"),
    "levels": ((MASK * 255).byte(), "divide levels by 255"),
    "beyond, and within in the mean": (torch.tensor([2.0, -1.0]).repeat(1, 1, 200, 100), "between 0 and 1"),
    "black and not a number": (MASK * float("nan"), "between 0 and 1"),
}


@pytest.mark.parametrize(("mask", "words"), MASKS.values(), ids=MASKS)
def test_a_mask_of_other_values_is_refused(mask, words, model):
    with pytest.raises(AdaDiffSRError, match=words):
        enlarge(model, mask=mask)


@pytest.mark.parametrize("mask", [MASK > 0, MASK.byte(), MASK.half()])
def test_a_mask_of_zeros_and_ones_is_one_in_any_kind(mask, model):
    assert torch.equal(enlarge(model, mask=mask), enlarge(model, mask=MASK))


def test_a_model_and_settings_are_needed(model):
    with pytest.raises(AdaDiffSRError, match=r"takes a SamplingConfig, such as PRESETS\[.everyday.\], got 'everyday'"):
        enlarge(model, config="everyday")
    with pytest.raises(AdaDiffSRError, match=r"takes a Model, such as load_model\(\), got PosixPath"):
        enlarge(Path("model.safetensors"))


@pytest.mark.parametrize("path", [None, 3, b"a.png", ["a.png"], "a\0.png", "\ud800.png", PIXELS], ids=repr)
def test_a_file_has_a_name(path):
    for use in (read_photo, lambda path: write_photo(Photo(pixels=PIXELS[0]), path)):
        with pytest.raises(AdaDiffSRError, match=r"named by a text or a Path|no file can have"):
            use(path)
    if path is not None:
        with pytest.raises(AdaDiffSRError, match=r"named by a text or a Path|no file can have"):
            load_model(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "x" * 300 + "/a.png"], ids=["file", "folder"])
def test_a_name_that_is_too_long_is_refused_as_every_other(name):
    for use in (read_photo, lambda path: write_photo(Photo(pixels=PIXELS[0]), path), load_model):
        with pytest.raises(AdaDiffSRError, match="File name too long"):
            use(name)


def test_a_model_is_loaded_by_text_as_by_path(tmp_path):
    for path in ("", "nothing.safetensors", str(tmp_path), Path("nothing.safetensors")):
        with pytest.raises(AdaDiffSRError, match="does not exist, or is no ordinary file"):
            load_model(path)


@pytest.mark.parametrize("device", ["nothing", "meta", "cuda:99", 1.5])
def test_a_model_is_loaded_to_a_device_that_is_there(device):
    with pytest.raises(AdaDiffSRError, match="cannot be used on this machine"):
        load_model(None, device)


@pytest.mark.parametrize("dtype", [torch.int8, "float32", torch.complex64, torch.float8_e4m3fn])
def test_a_model_computes_in_what_networks_can(dtype):
    with pytest.raises(AdaDiffSRError, match=r"networks compute in torch.float32"):
        load_model(None, "cpu", dtype)


PHOTOS = {
    "no tensor": ({"pixels": None}, "must be a tensor"),
    "an array": ({"pixels": PIXELS[0].numpy()}, "must be a tensor"),
    "levels": ({"pixels": (PIXELS[0] * 255).byte()}, "divide levels by 255"),
    "alpha": ({"pixels": PIXELS[0], "alpha": "opaque"}, "alpha must be a tensor"),
    "profile": ({"pixels": PIXELS[0], "icc_profile": "sRGB"}, "its bytes, or None"),
    "depth": ({"pixels": PIXELS[0], "bit_depth": "8"}, "8 or 16 bits"),
    "half depth": ({"pixels": PIXELS[0], "bit_depth": 8.0}, "8 or 16 bits"),
    "no notes": ({"pixels": PIXELS[0], "notes": None}, r"notes are Notes\(\)"),
}


@pytest.mark.parametrize(("parts", "words"), PHOTOS.values(), ids=PHOTOS)
def test_a_photo_is_made_of_what_it_says(parts, words):
    with pytest.raises(AdaDiffSRError, match=words):
        Photo(**parts)


@pytest.mark.parametrize("photo", [PIXELS, None, "photo.png"], ids=["tensor", "none", "text"])
def test_only_a_photo_is_written(photo, tmp_path):
    with pytest.raises(AdaDiffSRError, match=r"must be a Photo, such as read_photo\(\) gives"):
        write_photo(photo, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


NO_DPI = [(1e12, 72), (72, -1), (0, 0), (float("nan"), 72), (72, float("inf")), (72, 65536), (72,), 72, ("72", "72")]


@pytest.mark.parametrize("dpi", NO_DPI, ids=repr)
def test_a_resolution_that_no_file_holds_is_refused(dpi):
    with pytest.raises(AdaDiffSRError, match=r"two numbers from 0.1 to 65,535 dpi, across and down, got"):
        Notes(dpi=dpi)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("dpi", [(0.11, 72), (72, 65534), (np.float32(300), 150)], ids=repr)
def test_every_other_resolution_can_be_written(name, dpi, tmp_path, capfd):
    write_photo(Photo(pixels=PIXELS[0], notes=Notes(dpi=dpi)), tmp_path / name)
    if name != "a.jpg" and min(dpi) > 1:  # which holds whole numbers, from 1
        assert np.allclose(read_photo(tmp_path / name).notes.dpi, dpi, rtol=1e-3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.bool, None], ids=str)
def test_opacity_of_any_kind_is_written_as_its_values(kind, tmp_path):
    alpha = (PIXELS[0, :1] > 0.5).to(kind or torch.float32)
    write_photo(Photo(pixels=PIXELS[0], alpha=alpha if kind else alpha.requires_grad_()), tmp_path / "a.png")
    assert torch.equal(read_photo(tmp_path / "a.png").alpha, alpha.detach().float())


@pytest.mark.parametrize("quality", [np.int64(60), np.uint8(60), torch.tensor(60)], ids=repr)
def test_a_whole_number_of_any_kind_is_a_quality(quality, tmp_path):
    for name, given in (("a.jpg", quality), ("b.jpg", 60)):
        write_photo(Photo(pixels=PIXELS[0], bit_depth=np.int64(8)), tmp_path / name, given)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


@pytest.mark.parametrize("quality", ["95", None, 50.5, 95.0, True, np.True_, float("nan"), 0, 101], ids=repr)
def test_quality_is_a_whole_number(quality, tmp_path):
    with pytest.raises(AdaDiffSRError, match="from 1 to 100"):
        write_photo(Photo(pixels=PIXELS[0]), tmp_path / "a.jpg", quality)
    assert list(tmp_path.iterdir()) == []
