"""Joins the parts that came back from a lent machine.

    python -m scripts.device.join PARTS_FOLDER OUT_FOLDER

OUT_FOLDER then holds the weights, equal to the bit to those that were trained, and `reports` with logs and pictures.
"""

import argparse
import sys
import zipfile
from pathlib import Path

from adadiffsr_core.errors import AdaDiffSRError

from .parts import join_parts

REPORTS = "reports.zip"


def join(parts: Path, out: Path) -> list[Path]:
    """Join all files, and unpack the reports.

    Raises:
        CheckpointError: something is missing or damaged.
    """
    files = join_parts(parts, out)
    if (out / REPORTS) in files:
        with zipfile.ZipFile(out / REPORTS) as archive:
            archive.extractall(out / "reports")
    return files


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        for path in join(args.parts, args.out):
            sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
    except AdaDiffSRError as error:
        sys.stderr.write(f"join: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
