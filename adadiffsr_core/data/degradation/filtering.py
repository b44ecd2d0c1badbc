"""Fast filtering of images with the kernels that the degradation pipeline draws."""

from typing import Any

import numpy as np

from ...errors import import_extra

# Weight that each of the two approximations in `apply_kernel` may leave out: 1/8 grey level of a [0,1] image.
TOLERANCE = 5e-4
# Above this size OpenCV's filter2D takes a DFT, which costs as much as about DFT_TAPS taps of a direct kernel when the
# image comes in blocks that need one DFT each, and up to three times that otherwise. Measured at 256 and 512 px.
DIRECT_SIZE, DFT_TAPS, DFT_BLOCK_PX = 11, 250, 172


def import_cv2() -> Any:
    """OpenCV, which only training needs.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_extra("cv2", "training data needs OpenCV: pip install 'adadiffsr[train]'")


def trim_kernel(kernel: np.ndarray) -> np.ndarray:
    """Cut outer rings whose weights sum to no more than `TOLERANCE` in magnitude; the sum stays 1."""
    magnitude = np.abs(kernel)
    centre = kernel.shape[0] // 2
    for radius in range(centre + 1):
        inner = slice(centre - radius, centre + radius + 1)
        if magnitude.sum() - magnitude[inner, inner].sum() <= TOLERANCE:
            trimmed: np.ndarray = kernel[inner, inner] / kernel[inner, inner].sum()
            return trimmed
    return kernel


def separate_kernel(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write a kernel as a sum of few separable ones: columns and rows, both `[rank,k]`.

    What is left out sums to at most `TOLERANCE` in magnitude, so no pixel of a [0,1] image moves by more.
    """
    left, strength, right = np.linalg.svd(kernel)
    # residual[r] is what is missing when the first r terms are kept
    terms = left.T[:, :, None] * (strength[:, None] * right)[:, None, :]
    residual = np.abs(kernel - np.concatenate([np.zeros_like(kernel)[None], terms.cumsum(0)])).sum((1, 2))
    rank = int(np.argmax(residual <= TOLERANCE)) or len(strength)
    return left.T[:rank] * strength[:rank, None], right[:rank]


def _filter_blocks(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """What `cv2.filter2D` gives, block by block."""
    cv2 = import_cv2()
    radius = len(kernel) // 2
    padded = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    filtered = np.empty_like(image)
    for y in range(0, image.shape[0], DFT_BLOCK_PX):
        for x in range(0, image.shape[1], DFT_BLOCK_PX):
            source = padded[y : y + DFT_BLOCK_PX + 2 * radius, x : x + DFT_BLOCK_PX + 2 * radius]
            block = cv2.filter2D(source, -1, kernel)[radius:-radius, radius:-radius]
            filtered[y : y + DFT_BLOCK_PX, x : x + DFT_BLOCK_PX] = block
    return filtered


def _filter_separated(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    cv2 = import_cv2()
    passes = (cv2.sepFilter2D(image, -1, row, column) for row, column in zip(rows, columns, strict=True))
    total: np.ndarray = next(passes)
    for one in passes:
        total += one
    return total


def apply_kernel(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Filter float32 `[H,W,3]` in [0,1] with a kernel `[k,k]`, borders reflected; within half a grey level of exact.

    Most drawn kernels are narrower than their array or separable, which halves the time of the whole pipeline.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    kernel = trim_kernel(kernel)
    size = len(kernel)
    if size == 1:
        return image
    columns, rows = separate_kernel(kernel)
    if len(rows) * 4 * (size + 4) < (size**2 if size <= DIRECT_SIZE else DFT_TAPS):
        return _filter_separated(image, columns, rows)
    if size > DIRECT_SIZE:
        return _filter_blocks(image, kernel)
    filtered: np.ndarray = import_cv2().filter2D(image, -1, kernel)
    return filtered
