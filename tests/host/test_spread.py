"""A folder of pictures over two real servers: the command line's pictures, whatever happens to a server."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.host.api import Client
from tests.host.conftest import PACK, require_host
from tests.host.server import Server

SCALE, SIDE = 3, 40
NAMES = ["a.png", "b c ü 画.png", "sub/a.png", "sub/deep/a.png", "sub/a.jpg"]


@pytest.fixture(scope="module")
def second(tmp_path_factory, server):
    """Another server like `server`, which the last test of this module stops."""
    running = Server(require_host(), PACK, tmp_path_factory.mktemp("second"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos with blanks")
    with Image.open(PACK / "photos" / "cat.jpg") as opened:
        whole = opened.convert("RGB").resize((SIDE * 4, SIDE * 4), Image.Resampling.BICUBIC)
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        left, top = divmod(number, 3)
        box = (left * SIDE, top * SIDE, left * SIDE + SIDE + number, (top + 1) * SIDE)
        whole.crop(box).save(folder / name, quality=95)
    return folder


def start(folder, out, *servers, options=()):
    words = [sys.executable, "-m", "scripts.spread_over_servers", folder, "-o", out, *servers, "--recursive"]
    words += ["--scale", str(SCALE), *options]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    # Whoever starts the tests in the background has Ctrl-C ignored.
    return subprocess.Popen(list(map(str, words)), cwd=PACK, env=environment, preexec_fn=_heed_ctrl_c, **pipes)


def _heed_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def spread(*words, **options):
    process = start(*words, **options)
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def read(path):
    with Image.open(path) as opened:
        assert opened.mode == "RGB"
        return np.asarray(opened).astype(int)


def results(out):
    return {path.relative_to(out).as_posix(): read(path) for path in out.rglob("*.png")}


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    """What the command line makes of them."""
    out = tmp_path_factory.mktemp("command line")
    words = ["upscale", photos, "-o", out, "--scale", SCALE, "--recursive", "--format", "png", "--threads", 1]
    run = [sys.executable, "-c", "import sys; from adadiffsr_core.cli import main; sys.exit(main())", *map(str, words)]
    subprocess.run(run, cwd=PACK, check=True, capture_output=True)
    return results(out)


def check_same(found, expected):
    """Equal to the level, but where two kinds of arithmetic fall to either side of a rounding."""
    assert found.keys() == expected.keys()
    for name, picture in expected.items():
        difference = np.abs(found[name] - picture)
        if name.endswith("a.jpg.png"):  # the host decodes JPEG by another library
            assert difference.mean() < 1
            continue
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.fixture(scope="module")
def made(photos, server, second, tmp_path_factory):
    out = tmp_path_factory.mktemp("spread") / "out"
    return out, spread(photos, out, server.address, second.address)


def test_pictures_are_the_command_lines(made, expected):
    out, (code, said, error) = made
    assert (code, error) == (0, "")
    assert said.count(" evaluations a region") == len(NAMES)
    check_same(results(out), expected)


def test_both_servers_had_work(made, server, second):
    counts = [len(Client(each.address).json("/history")) for each in (server, second)]
    assert min(counts) > 0


def test_the_same_command_again_makes_nothing(made, photos, server):
    out, _ = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    code, said, _ = spread(photos, out, server.address)
    assert code == 0
    assert said.count("done before") == len(NAMES)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == before


def test_files_of_others_are_kept_and_one_that_is_gone_is_made_again(made, photos, server, expected):
    out, _ = made
    (out / "sub" / "a.png").unlink()
    code, said, _ = spread(photos, out, server.address)
    assert (code, said.count("done before")) == (0, len(NAMES) - 1)
    check_same(results(out), expected)
    code, _, error = spread(photos, out, server.address, options=["--seed", "5"])
    assert code == 2
    assert error.count("is there already") == len(NAMES)
    check_same(results(out), expected)


def test_a_broken_picture_is_named_and_costs_no_other(photos, server, second, tmp_path, expected):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes((photos / "a.png").read_bytes())
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture IEND")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes((photos / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("none")
    code, _, error = spread(folder, out, server.address, second.address)
    assert code == 2
    assert "passed over" in error
    (told,) = [line for line in error.splitlines() if "broken.png" in line]
    assert "given up after 3 tries: LoadImage: " in told
    assert "cut.png: the file is cut short" in error
    assert "text.png: the file is no PNG" in error
    check_same(results(out), {"a.png": expected["a.png"]})


def test_what_the_node_refuses_is_refused_at_once(photos, server, tmp_path):
    code, _, error = spread(photos / "sub" / "deep", tmp_path, server.address, options=["--likeness", "3"])
    assert code == 2
    assert "AdaDiffSR_UpscaleByRegions: Value 3.0 smaller than min of 20.0, likeness" in error
    assert list(tmp_path.rglob("*.png")) == []


def test_what_the_host_leaves_out_is_said(server, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGBA", (20, 16), (200, 100, 50, 128)).save(folder / "clear.png")
    code, _, error = spread(folder, tmp_path / "out", server.address)
    assert code == 0
    assert "leaves out its transparency" in error


def test_no_server_that_can_is_one_sentence(photos, tmp_path):
    code, _, error = spread(photos, tmp_path / "out", "http://127.0.0.1:9")
    assert code == 2
    assert "http://127.0.0.1:9 does not answer" in error
    assert "no server can do the work" in error
    assert "Traceback" not in error


def wait_for_work(client):
    deadline = time.monotonic() + 60
    while not client.queue()["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.02)


def test_ctrl_c_takes_back_what_is_queued_and_the_rest_is_made_afterwards(photos, server, tmp_path, expected):
    client = Client(server.address)
    process = start(photos, tmp_path / "out", server.address, options=["--in-flight", "3"])
    wait_for_work(client)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what was finished is kept" in error
    assert "Traceback" not in error
    deadline = time.monotonic() + 30
    while client.queue()["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.queue()["queue_running"] == client.queue()["queue_pending"] == []
    assert spread(photos, tmp_path / "out", server.address)[0] == 0
    check_same(results(tmp_path / "out"), expected)


def test_one_server_killed_loses_nothing(photos, server, second, tmp_path, expected):
    process = start(photos, tmp_path / "out", second.address, server.address, options=["--in-flight", "3"])
    wait_for_work(Client(second.address))
    second.kill()
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"{second.address} does not answer" in error
    assert "the others do what it had" in error
    check_same(results(tmp_path / "out"), expected)
