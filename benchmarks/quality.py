"""Quality against evaluations: adaptive and uniform sampling of one model, beside other methods' pictures.

    python -m benchmarks.quality --pairs RealSR=LQ_FOLDER:GT_FOLDER --weights IQA_FOLDER --out results/ [--limit 10]
        [--methods bicubic,adaptive,uniform1,uniform2,uniform3,uniform4,adaptive+every_step]
        [--pictures Real-ESRGAN=FOLDER_WITH_A_FOLDER_PER_SET]

Every figure goes into OUT/METHOD.json as it is measured, so the command may be stopped and started again; a
changed model needs a new OUT. `--save` also keeps the pictures.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from adadiffsr_core.evaluation.measure import ResultStore, measure, upscale_bicubic
from adadiffsr_core.evaluation.pairs import Pair, find_pairs
from adadiffsr_core.evaluation.table import Result, summarise, to_csv, to_json, to_markdown
from adadiffsr_core.images import Photo, read_photo, write_photo
from adadiffsr_core.metrics.registry import create_metric
from adadiffsr_core.pipeline import PRESETS, Model, SamplingConfig, load_model, upscale

METRICS = "psnr,ssim,st_lpips,nlpd,vsi,niqe,brisque,piqe"
METHODS = "bicubic,adaptive,uniform1,uniform2,uniform3,uniform4,adaptive+every_step"
Restore = Callable[[str, Pair], tuple[Tensor, float]]


def method_config(method: str, preset: SamplingConfig) -> SamplingConfig:
    """The sampling of a method's name: `adaptive` or `uniformK`, perhaps `+every_step`."""
    name, _, merge = method.partition("+")
    config = preset if name == "adaptive" else preset.uniform(int(name.removeprefix("uniform")))
    return replace(config, merge=merge or "final")


def sampled(model: Model, config: SamplingConfig) -> Restore:
    """A method that samples; its second value is the mean of evaluations per tile."""

    def restore(dataset: str, pair: Pair) -> tuple[Tensor, float]:
        lq, gt = read_photo(pair.lq).pixels, read_photo(pair.gt).pixels
        done = upscale(model, lq[None], (gt.shape[-2], gt.shape[-1]), config)
        return done.image, done.report.mean_nfe

    return restore


def bicubic(dataset: str, pair: Pair) -> tuple[Tensor, float]:
    """The baseline."""
    lq, gt = read_photo(pair.lq).pixels, read_photo(pair.gt).pixels
    return upscale_bicubic(lq[None], gt.shape[-1] // lq.shape[-1]), 0.0


def pictures(folder: Path) -> Restore:
    """Another method's finished pictures."""

    def restore(dataset: str, pair: Pair) -> tuple[Tensor, float]:
        return read_photo(folder / dataset / f"{pair.lq.stem}.png").pixels[None], 0.0

    return restore


def methods(args: argparse.Namespace) -> Iterator[tuple[str, Restore]]:
    """The methods asked for, in order."""
    model = None
    for name in args.methods.split(","):
        if name == "bicubic":
            yield name, bicubic
        else:
            model = model or load_model(args.model)
            yield name, sampled(model, method_config(name, PRESETS[args.preset]))
    for spec in args.pictures:
        name, _, folder = spec.partition("=")
        yield name, pictures(Path(folder))


def test_pairs(args: argparse.Namespace) -> Iterator[tuple[str, Pair]]:
    """Every chosen pair with the name of its set."""
    for spec in args.pairs:
        dataset, _, folders = spec.partition("=")
        lq, _, gt = folders.partition(":")
        for pair in find_pairs(Path(lq), Path(gt))[:: args.every][: args.limit]:
            yield dataset, pair


def run(args: argparse.Namespace) -> list[Result]:
    """Measure what has not been measured yet; returns everything, with `nfe` among the metrics."""
    metrics = {name: create_metric(name, "cpu", args.weights) for name in args.metrics.split(",")}
    results = []
    for method, restore in methods(args):
        store = ResultStore(args.out / f"{method}.json")
        wanted = set()
        for dataset, pair in test_pairs(args):
            key = f"{dataset}/{pair.name}"
            wanted.add(key)
            if missing := store.missing(key, metrics):
                image, nfe = restore(dataset, pair)
                store.add(key, {"nfe": nfe} | measure(image, read_photo(pair.gt).pixels[None], missing))
                if args.save:
                    save(image, args.out / method / dataset / f"{pair.name}.png")
                print(method, key, flush=True)
        rows = [(key, row) for key, row in store.items() if key in wanted]
        names = [*metrics, "nfe"]
        results += [Result(method, *key.split("/"), name, row.get(name, 0.0)) for key, row in rows for name in names]
    return results


def save(image: Tensor, path: Path) -> None:
    """Keep a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(Photo(pixels=image[0], alpha=None, bit_depth=8, is_grey=False, icc_profile=None, path=path), path)


def main() -> None:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", action="append", required=True)
    parser.add_argument("--pictures", action="append", default=[])
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--metrics", default=METRICS)
    parser.add_argument("--preset", default="everyday", choices=sorted(PRESETS))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--every", type=int, default=1, help="take every so many-th pair")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = run(args)
    quality = [result for result in results if result.metric != "nfe"]
    cells = summarise(quality)
    nfe: dict[str, list[float]] = {}
    for result in results:
        if result.metric == "nfe":
            nfe.setdefault(f"{result.dataset}, {result.method}", []).append(result.value)
    text = to_markdown(cells) + "\nMean evaluations per tile:\n\n"
    text += "".join(f"* {name}: {sum(values) / len(values):.2f}\n" for name, values in nfe.items())
    print(text)
    for suffix, content in (("md", text), ("csv", to_csv(cells)), ("json", to_json(cells))):
        (args.out / f"table.{suffix}").write_text(content)


if __name__ == "__main__":
    main()
