"""The public door: what other programs import, and the README's example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adadiffsr_core

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", adadiffsr_core.__all__)
def test_every_public_name_is_there(name):
    assert name in dir(adadiffsr_core)
    assert getattr(adadiffsr_core, name) is not None


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        adadiffsr_core.nothing  # noqa: B018


def test_the_door_costs_nothing():
    program = "import sys, adadiffsr_core; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readmes_example_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    (example,) = (block for block in blocks if "adadiffsr_core" in block)
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", example]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+\.\d evaluations per tile, \d+% saved\n", done.stdout)
    with Image.open(tmp_path / "sharp.png") as made:
        assert made.size == (96, 64)
