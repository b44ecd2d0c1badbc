"""JPEG as a function of tensors against libjpeg's own, as OpenCV calls it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from adadiffsr_core.data.degradation.jpeg import JpegTables, compress_batch, recode_levels

pytestmark = pytest.mark.usefixtures("one_thread")
PHOTOS = sorted((Path(__file__).resolve().parents[3] / "photos").glob("*.jpg"))
TABLES = JpegTables.on(torch.device("cpu"))


def crop(path, side, place=40):
    """A square of a photograph, off the grid that it was compressed on itself."""
    photo = cv2.imread(str(path))
    start = min(place, min(photo.shape[:2]) - side) | 3
    picture = photo[start : start + side, start : start + side, ::-1]
    assert picture.shape == (side, side, 3)
    return np.ascontiguousarray(picture)


def libjpeg(picture, quality):
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def recode(pictures, qualities, length=None):
    """As one batch whose buffer is larger than the pictures."""
    length = length or max(len(picture) for picture in pictures) + 5
    levels = torch.full((len(pictures), 3, length, length), 200.0)
    for buffer, picture in zip(levels, pictures, strict=True):
        buffer[:, : len(picture), : len(picture)] = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    sides = torch.tensor([float(len(picture)) for picture in pictures])
    coded = recode_levels(levels, torch.tensor([float(quality) for quality in qualities]), sides, TABLES)
    return [
        coded[i, :, : len(picture), : len(picture)].permute(1, 2, 0).numpy().astype(int)
        for i, picture in enumerate(pictures)
    ]


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
@pytest.mark.parametrize("quality", [5, 30, 50, 60, 75, 85, 90, 95, 98, 100])
def test_a_photograph_is_within_a_level_of_libjpeg(path, quality):
    pictures = [crop(path, side, place) for side in (97, 96, 63) for place in (0, 30)]
    ours = recode(pictures, [quality] * len(pictures))
    errors = [np.abs(one - libjpeg(picture, quality)) for picture, one in zip(pictures, ours, strict=True)]
    assert np.mean([np.mean(error <= 1) for error in errors]) >= 0.95
    assert np.mean([error.mean() for error in errors]) < 0.35


def test_edges_are_libjpegs():
    sides = [5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33]
    pictures = [crop(path, side) for path in PHOTOS for side in sides]
    ours = recode(pictures, [40] * len(pictures))
    # where a coefficient is just between two steps, one of the two takes the other, and a whole block differs
    errors = [np.abs(one - libjpeg(picture, 40)) for picture, one in zip(pictures, ours, strict=True)]
    assert np.mean([np.mean(error <= 1) for error in errors]) >= 0.95
    assert np.median([error.mean() for error in errors]) < 0.1


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90), (1, 128, 254)])
def test_a_flat_picture_is_exactly_libjpegs(colour):
    picture = np.full((40, 40, 3), colour, np.uint8)
    for quality in (3, 10, 35, 50, 75, 90, 100):
        np.testing.assert_array_equal(recode([picture], [quality])[0], libjpeg(picture, quality))


def test_pictures_of_a_batch_have_their_own_quality_and_size():
    pictures, qualities = [crop(PHOTOS[0], side) for side in (33, 64, 50)], [20, 95, 60]
    together = recode(pictures, qualities)
    for picture, quality, ours in zip(pictures, qualities, together, strict=True):
        np.testing.assert_allclose(ours, recode([picture], [quality], 90)[0], atol=1)


def test_quality_zero_is_no_jpeg():
    images = torch.rand(2, 3, 20, 20)
    ours = compress_batch(images, torch.tensor([0.0, 50.0]), torch.full((2,), 20.0), TABLES)
    assert torch.equal(ours[0], images[0])
    assert not torch.equal(ours[1], images[1])
    torch.testing.assert_close(ours[1] * 255, (ours[1] * 255).round(), atol=1e-4, rtol=0)


def test_the_transform_is_its_own_inverse_and_is_exact_in_few_bits():
    forward, inverse = TABLES.forward.double().sum(0), TABLES.inverse.double().sum(0)
    torch.testing.assert_close(forward @ inverse, 8 * torch.eye(64).double(), atol=1e-5, rtol=0)
    assert torch.equal(TABLES.forward[0], TABLES.forward[0].bfloat16().float())


def test_every_tensor_is_on_the_device():
    tables, meta = JpegTables.on(torch.device("meta")), torch.device("meta")
    ours = compress_batch(torch.rand(2, 3, 21, 21, device=meta), *torch.rand(2, 2, device=meta), tables)
    assert ours.is_meta
    assert ours.shape == (2, 3, 21, 21)
