"""`upscale --cluster`: the files are those of one machine, to the bit, whoever dies on the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adadiffsr_core
from adadiffsr_core.cluster import joining
from adadiffsr_core.commands import cluster as command
from adadiffsr_core.commands import plan
from adadiffsr_core.commands.journal import NAME
from adadiffsr_core.streaming.pieces import SampleWork
from tests.core.commands.upscaled import DONE, make_photo

WORDS = ("in", "--scale", "1", "--threads", "1", "--steps", "2")
ROOT = str(Path(adadiffsr_core.__file__).resolve().parents[1])

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'adadiffsr[cluster]'")


@pytest.fixture(scope="module")
def address():
    """Of a cluster of one machine with two processors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        joining._import_ray()
        from ray.cluster_utils import Cluster

        with joining._environment(PYTHONPATH=ROOT, RAY_worker_niceness="0"):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def photos(tmp_path):
    for number in range(6):
        make_photo(tmp_path / "in" / f"{number}.png", side=12 + number, seed=number)
    make_photo(tmp_path / "in" / "5.png", mode="RGBA", side=14)


def outputs(folder):
    return ("-o", f"{folder}/", "--map", f"{folder}/", "--report", f"{folder}/")


def read_all(folder):
    found = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != NAME}
    for name in [name for name in found if name.endswith(".json")]:
        found[name] = json.loads(found[name].decode().replace(f'"{folder}/', '"'))
        assert found[name].pop("seconds") > 0
    return found


def test_without_the_extra_a_sentence_says_what_to_install(run, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, lines, refused = run(*WORDS, *outputs("out"), "--cluster", "local")
    assert (code, lines, refused) == (2, [], ["--cluster needs Ray: pip install 'adadiffsr[cluster]'"])
    assert not Path("out").exists()
    assert run(*WORDS, *outputs("out"))[0] == 0


@needs_ray
def test_where_there_is_no_cluster_a_sentence_says_so(run, photos):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for words, told in (
            (("--cluster", f"127.0.0.1:{closed.getsockname()[1]}"), "no Ray cluster answers at"),
            (("--cluster", "nowhere"), "--cluster is local, auto, or an address"),
            (("--cluster", "a:99999"), "--cluster is local, auto, or an address"),
            (("--cluster", "local", "--device", "cuda:1"), "--device is cpu or cuda"),
        ):
            code, lines, refused = run(*WORDS, *outputs("out"), *words)
            assert (code, lines, len(refused)) == (2, [], 1)
            assert told in refused[0]
    assert not Path("out").exists()


@needs_ray
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_what_a_cluster_makes_is_what_one_machine_makes_though_a_worker_dies(
    run, photos, address, tmp_path, monkeypatch
):
    assert run(*WORDS, *outputs("one"))[0] == 0
    died = tmp_path / "died"

    class Fragile:
        def __init__(self, task):
            self.task = task

        def __call__(self, bench):
            if self.task.job.source.name == "2.png" and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return self.task(bench)

    load = command.PhotoUnit.load
    monkeypatch.setattr(command.PhotoUnit, "load", lambda unit: Fragile(load(unit)))
    read = plan.read_file
    monkeypatch.setattr(plan, "read_file", lambda path: read(path)[: 60 if path.name == "cut.png" else None])
    make_photo(Path("in/cut.png"))
    code, lines, refused = run(*WORDS, *outputs("two"), "--cluster", address)
    assert "in/cut.png is damaged" in refused[0]
    assert (code, len(lines), len(refused)) == (2, 6, 1)
    assert all(DONE.match(line) for line in lines)
    assert died.exists()
    assert read_all("two") == read_all("one")


@needs_ray
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_the_command_goes_on_where_it_was_killed(run, photos, address, weights):
    assert run(*WORDS, *outputs("one"))[0] == 0
    words = [*WORDS, *outputs("two"), "--cluster", address, "--model", str(weights)]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    driver = subprocess.Popen(
        [sys.executable, "-m", "adadiffsr_core.cli", "upscale", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert driver.stdout.readline()  # the first is told
    driver.kill()
    driver.communicate()
    made = {path.name: path.stat().st_mtime_ns for path in Path("two").iterdir() if path.suffix == ".png"}
    finished = [line for line in Path("two", NAME).read_text().splitlines() if "bytes" in line]
    time.sleep(0.1)
    code, lines, refused = run(*WORDS, *outputs("two"), "--cluster", address)
    assert (code, refused) == (0, [])
    assert len([line for line in lines if line.endswith("done before")]) == len(finished) >= 1
    assert read_all("two") == read_all("one")
    for name in (json.loads(line)["result"] for line in finished):
        assert Path("two", name).stat().st_mtime_ns == made[name]


@needs_ray
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("more", [(), ("--mask", "mask.png")])
def test_one_large_picture_is_made_by_all_workers_though_one_dies(run, address, tmp_path, monkeypatch, more):
    make_photo(Path("in/large.png"), side=700)  # three rows of the decoder's blocks at 4x
    mask = np.random.default_rng(0).choice([0, 128, 255], (5, 5)).astype(np.uint8)
    mask[2] = 0
    Image.fromarray(mask).resize((704, 700), Image.Resampling.NEAREST).save("mask.png")
    words = ("in/large.png", "--threads", "1", "--steps", "1", "--bands", "always", "--tile-batch", "4", *more)
    assert run(*words, *outputs("one"), steps=1)[0] == 0
    died = tmp_path / "died"

    class Fragile:
        def __init__(self, task):
            self.task = task

        def __call__(self, bench):
            if isinstance(self.task.work, SampleWork) and self.task.work.part[0] > 2 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return self.task(bench)

    load = command.BandUnit.load
    monkeypatch.setattr(command.BandUnit, "load", lambda unit: Fragile(load(unit)))
    code, lines, refused = run(*words, *outputs("two"), "--cluster", address, steps=1)
    assert (code, refused) == (0, [])
    assert len(lines) == 2
    assert died.exists()
    assert read_all("two") == read_all("one")


@needs_ray
def test_a_large_picture_that_a_worker_refuses_spares_the_others(run, address, monkeypatch):
    make_photo(Path("in/a.png"), side=40)
    make_photo(Path("in/b.png"), side=44)
    words = ("in", "--scale", "1", "--threads", "1", "--bands", "always")

    class Refusing:
        def __init__(self, task):
            self.task = task

        def __call__(self, bench):
            if self.task.work.picture.source[0] == 40 and isinstance(self.task.work, SampleWork):
                from adadiffsr_core.errors import ImageError  # this class travels by value, and would take it along

                return ImageError("this one is refused")
            return self.task(bench)

    load = command.BandUnit.load
    monkeypatch.setattr(command.BandUnit, "load", lambda unit: Refusing(load(unit)))
    code, _, refused = run(*words, *outputs("out"), "--cluster", address)
    assert (code, len(refused)) == (2, 1)
    assert "in/a.png: this one is refused" in refused[0]
    assert Path("out/b.png").exists()
    assert not Path("out/a.png").exists()
