"""Photographs of known levels, and files of them."""

import io

import numpy as np
import torch
from PIL import ImageCms

from adadiffsr_core.photo.value import Photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def make_photo(bit_depth=8, *, is_grey=False, has_alpha=False, size=(23, 37), seed=0, **more):
    peak = 2**bit_depth - 1
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, peak + 1, (4, *size), generator=generator).float() / peak
    pixels = levels[:1].repeat(3, 1, 1) if is_grey else levels[:3]
    return Photo(pixels=pixels, alpha=levels[3:] if has_alpha else None, bit_depth=bit_depth, is_grey=is_grey, **more)


def smooth_levels(height=48, width=64):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack((rows * 5, columns * 3, 255 - rows * 2 - columns), -1).clip(0, 255).astype(np.uint8)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def assert_same(photo, other):
    assert torch.equal(photo.pixels, other.pixels)
    assert (photo.alpha is None) == (other.alpha is None)
    assert photo.alpha is None or torch.equal(photo.alpha, other.alpha)
    assert (photo.bit_depth, photo.is_grey) == (other.bit_depth, other.is_grey)
