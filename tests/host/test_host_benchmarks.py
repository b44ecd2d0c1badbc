"""ComfyUI's benchmarks get past their set-up and through one round, at a tiny size; see `tests/test_benchmarks.py`."""

import runpy
import sys
import warnings

import pytest

from tests.host.conftest import require_host
from tests.host.own import write_bundle
from tests.host.pack import PACK


@pytest.fixture
def run(host, monkeypatch, capsys):
    """Runs a benchmark with such arguments; what it printed."""

    def run_file(name, *words):
        path = PACK / "benchmarks" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))  # they put folders to its front
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the host's, not ours to mend
            runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run_file


def test_host_overhead(run):
    words = ("--side", 16, "--overlap", 2, "--rows", 2, "--batch", 2, "--steps", 2)
    told = run("host_overhead", require_host(), 1, *words)
    assert [line.partition(":")[0] for line in told.splitlines()] == ["uniform", "adaptive"]


def test_sd21(run, tmp_path):
    # Not of its size, nor Stable Diffusion; what is done with it is the same.
    told = run("sd21", require_host(), write_bundle(tmp_path / "model.safetensors"), "--side", 128)
    assert "sampled 1 tile of 128 px in 2 evaluations" in told
    assert "decoded (1, 128, 128, 3), finite: True" in told
