"""Where the commands on the lent machine find packages that travelled along."""

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES, STUBS = "packages", "stubs"


def child_environment(pack: Path) -> dict[str, str]:
    """This process's environment, with the pack's packages.

    A stub stands in for a package only where there is none: it must not hide a real one.
    """
    paths = [ROOT, pack.absolute() / PACKAGES]
    stubs = pack.absolute() / STUBS
    if stubs.is_dir():
        paths += [stub for stub in sorted(stubs.iterdir()) if importlib.util.find_spec(stub.name) is None]
    given = os.environ.get("PYTHONPATH")
    joined = os.pathsep.join([*(str(path) for path in paths if path.is_dir()), *([given] if given else [])])
    return {**os.environ, "PYTHONPATH": joined, "PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
