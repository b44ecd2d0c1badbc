"""How far cameras blur: of pairs that were taken at two focal lengths, the Gaussian that makes one of the other.

    python -m benchmarks.camera_blur LQ:GT ... [--every 4] [--from 0]

The truth is brought to the low-quality picture's size by area averaging and blurred by Gaussians of 0 to 3 px there;
brightness and contrast are fitted, and the one with the least squared error is the pair's. Printed are, in px of the
truth, the least, the median and the greatest of each folder, beside what the milder degradation draws.
"""

import argparse
from pathlib import Path

import numpy as np

from adadiffsr_core.data.degradation.filtering import import_cv2
from adadiffsr_core.data.degradation.single import MILD_BLUR
from adadiffsr_core.data.photo_files import load_image
from adadiffsr_core.evaluation.sets import read_pairs

_DEVIATIONS = np.arange(0, 3.01, 0.15)
_BORDER = 8  # px of the low-quality picture that are not compared: beyond them the blur has to guess


def measure_blur(lq: np.ndarray, gt: np.ndarray) -> float:
    """Standard deviation, px of the truth.

    Args:
        lq: uint8 `[h,w,3]`, at least three borders high and wide.
        gt: uint8 `[H,W,3]`, as many times larger on both sides.
    """
    cv2 = import_cv2()
    truth = cv2.resize(gt.astype(np.float32), lq.shape[1::-1], interpolation=cv2.INTER_AREA)
    inner = (slice(_BORDER, -_BORDER),) * 2
    wanted = lq.astype(np.float32)[inner].ravel()

    def error(deviation: float) -> float:
        blurred = cv2.GaussianBlur(truth, (0, 0), deviation) if deviation else truth
        shown = blurred[inner].ravel()
        return float(np.square(np.polyval(np.polyfit(shown, wanted, 1), shown) - wanted).mean())

    return min(map(float, _DEVIATIONS), key=error) * gt.shape[0] / lq.shape[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="LQ:GT")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--from", type=int, default=0, dest="first")
    args = parser.parse_args()
    print("| pairs | least | median | greatest |\n| --- | ---: | ---: | ---: |")
    for words in args.pairs:
        found = read_pairs(words, [Path(folder) for folder in words.split(":")])[args.first :: args.every]
        blurs = [measure_blur(load_image(pair.lq), load_image(pair.gt)) for pair in found if pair.gt is not None]
        print(f"| {len(blurs)} of {words} | {min(blurs):.1f} | {np.median(blurs):.1f} | {max(blurs):.1f} |")
    print(f"\nThe milder degradation draws from {MILD_BLUR[0]} to {MILD_BLUR[1]} px where it is told nothing else.")


if __name__ == "__main__":
    main()
