"""The benchmark of cameras' blur finds the blur that was put on."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.camera_blur import measure_blur


@pytest.mark.parametrize("deviation", [0.0, 2.4, 4.0])
def test_the_blur_that_was_put_on_is_found(deviation):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    truth = np.asarray(noise.resize((256, 256), Image.Resampling.BICUBIC))
    blurred = gaussian_filter(truth.astype(np.float32), (deviation, deviation, 0)).round().astype(np.uint8)
    low = np.asarray(Image.fromarray(blurred).resize((64, 64), Image.Resampling.BOX))
    assert abs(measure_blur(low, truth) - deviation) <= 0.6
    darker = (low * 0.8).round().astype(np.uint8)  # brightness and contrast are no blur
    assert abs(measure_blur(darker, truth) - deviation) <= 0.6
