"""Crops of the example photographs, as pictures of OpenCV's and as batches."""

from pathlib import Path

import cv2
import numpy as np
import torch

from adadiffsr_core.data.degradation.single import DegradationConfig, from_levels

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
STRONG, MILD = DegradationConfig(), DegradationConfig.mild()
METHODS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)  # in the order of `resampling`


def crops(count, size_px, seed=0):
    """Of the example photographs, uint8 `[count,size_px,size_px,3]`."""
    rng = np.random.default_rng(seed)
    photos = [cv2.imread(str(path)) for path in sorted(PHOTOS.glob("*.jpg"))]
    drawn = []
    for i in range(count):
        photo = photos[i % len(photos)]
        y, x = (rng.integers(side - size_px + 1) for side in photo.shape[:2])
        drawn.append(photo[y : y + size_px, x : x + size_px, ::-1])
    return np.stack(drawn)


def to_batch(pictures):
    return torch.from_numpy(np.ascontiguousarray(from_levels(pictures).transpose(0, 3, 1, 2)))


def to_picture(image, side=None):
    return np.ascontiguousarray(image[:, :side, :side].permute(1, 2, 0).numpy())


def in_corner(picture, length):
    """A picture in a buffer of something else."""
    buffer = torch.full((1, 3, length, length), 1e6)
    buffer[0, :, : len(picture), : len(picture)] = torch.from_numpy(picture).permute(2, 0, 1)
    return buffer
