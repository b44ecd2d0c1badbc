"""Writes what has to travel to a lent machine: photographs within a budget, and the perceptual metric.

    python -m scripts.device.pack PHOTOS PACK [--megabytes 38] [--perceptual]

The photographs are encoded anew and chosen, one crop of each first. Which of them are held out is the same there as
here.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from adadiffsr_core.data.dataset import split_photos
from adadiffsr_core.data.photo_files import find_images, keep_sound
from adadiffsr_core.errors import AdaDiffSRError, ConfigError

from .perceptual import pack_perceptual
from .photographs import Encoding, list_crops, order_crops, write_photographs

_HOLDOUT = 0.05  # of the shipped recipes, for the figures that are said; the split itself is for any


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What to pack.

    Attributes:
        megabytes: of photographs, in MiB.
        encoding: of the photographs.
        seed: of the choice.
        after: packs that have travelled before; what they hold is taken last.
        perceptual: take the perceptual metric along, another 9.5 MiB.
    """

    megabytes: float = 38.0
    encoding: Encoding = field(default_factory=Encoding)
    seed: int = 0
    after: tuple[Path, ...] = ()
    perceptual: bool = False


def pack(photos: list[Path], out: Path, config: PackConfig) -> str:
    """Write the folder.

    Args:
        photos: folders of photographs.
        out: replaced, if it is a pack.
        config: what goes in.

    Returns:
        What it holds, in one sentence.

    Raises:
        ConfigError: `out` is something else, or not one photograph fits.
        MissingExtraError: the perceptual metric is not installed.
    """
    known = {name for before in config.after for name in _read_names(before)}
    if out.exists() and any(out.iterdir()) and not (out / "pack.json").is_file():
        raise ConfigError(f"{out} is not empty and no pack; name another folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _write_facts(out, {"settings": asdict(config)})  # first: what is left of an attempt may be replaced
    if config.perceptual:
        pack_perceptual(out)
    crops = list_crops(keep_sound(find_images(photos), lambda fault: sys.stderr.write(f"pack: {fault}\n")))
    budget = int(config.megabytes * 2**20)
    order = order_crops(crops, config.seed, known)
    taken = write_photographs(order, photos, out / "photos", budget, config.encoding)
    if not taken:
        raise ConfigError(f"no photograph fits into {config.megabytes} MiB")
    split = split_photos([path for _, path in taken], _HOLDOUT)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    facts = {
        "names": sorted(crop.path.name for crop, _ in taken),
        "photographs": len({crop.photo for crop, _ in taken}),
        "held_out": len(split.held_out),
        "bytes": size,
    }
    _write_facts(out, {"settings": asdict(config), **facts})
    return (
        f"{out}: {len(taken)} of {len(crops)} crops, of {facts['photographs']} photographs, {facts['held_out']} "
        f"held out at a holdout of {_HOLDOUT}; {size / 2**20:.1f} MiB in all"
    )


def _read_names(before: Path) -> list[str]:
    try:
        names: list[str] = json.loads((before / "pack.json").read_text(encoding="utf-8"))["names"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{before} is not a pack") from error
    return names


def _write_facts(out: Path, facts: dict[str, object]) -> None:
    (out / "pack.json").write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")


def main() -> int:
    """The command line."""
    shipped = PackConfig()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument(
        "--megabytes", type=float, default=shipped.megabytes, help="size of the photographs (default 38)"
    )
    parser.add_argument("--codec", default=shipped.encoding.codec, help="jpeg (default), webp or avif")
    parser.add_argument(
        "--quality", type=int, default=shipped.encoding.quality, help="quality of the codec (default 78)"
    )
    parser.add_argument("--scale", type=float, default=shipped.encoding.scale, help="before encoding (default 0.75)")
    parser.add_argument("--seed", type=int, default=shipped.seed, help="seed of the choice of crops")
    parser.add_argument("--after", type=Path, nargs="+", default=[], metavar="PACK", help="take what these lack first")
    parser.add_argument("--perceptual", action="store_true", help="take the perceptual metric along")
    args = parser.parse_args()
    try:
        encoding = Encoding(codec=args.codec, quality=args.quality, scale=args.scale)
        config = PackConfig(
            megabytes=args.megabytes,
            encoding=encoding,
            seed=args.seed,
            after=tuple(args.after),
            perceptual=args.perceptual,
        )
        sys.stdout.write(pack(args.photos, args.pack, config) + "\n")
    except (AdaDiffSRError, OSError) as error:
        sys.stderr.write(f"pack: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
