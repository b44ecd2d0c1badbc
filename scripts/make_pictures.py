"""Makes every picture of the documentation and every thumbnail that shows what the embedded model does.

    python -m scripts.make_pictures [--only NAME ...] [--model FILE] [--out FOLDER]

A new model needs nothing else; look at the pictures afterwards. Screenshots of ComfyUI are not among them. What is
written on a picture is measured by the run that it shows.
"""

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from adadiffsr_core import PRESETS, AdaDiffSRError, load_model

from .pictures.album import ALBUM, Picture, choose_pictures
from .pictures.layout import save_jpeg
from .pictures.results import Results

ROOT = Path(__file__).resolve().parents[1]
logger = logging.getLogger(__name__)


def make_pictures(pictures: Iterable[Picture], results: Results, folder: Path) -> None:
    """Draw pictures and write them below a folder, which takes the place of the repository's root.

    Raises:
        ConfigError: one cannot be made small enough.
        OSError: a file cannot be written.
    """
    for picture in pictures:
        path = folder / picture.path
        save_jpeg(picture.draw(results), path, picture.limit)
        logger.info("%s: %d bytes", path, path.stat().st_size)


def main() -> None:
    """Read the command line and make what it names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({picture.name for picture in ALBUM})
    parser.add_argument("--only", nargs="+", choices=names, default=[], metavar="NAME", help=", ".join(names))
    parser.add_argument("--model", type=Path, help="weights to use in place of the embedded ones")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder for the files; the repository")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        results = Results(load_model(arguments.model), PRESETS["everyday"])
        make_pictures(choose_pictures(arguments.only), results, arguments.out)
    except (AdaDiffSRError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
