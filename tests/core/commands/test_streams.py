"""What cannot be said stops no work and changes no exit code: closed, full and broken stdout and stderr."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adadiffsr_core.cli import main
from adadiffsr_core.commands.streams import Streams
from adadiffsr_core.commands.terminal import ProgressBar, say
from tests.core.commands.upscaled import files_in, make_photo

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs descriptors and a shell")


class Full(io.StringIO):
    """A stream that takes nothing."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [Full, closed, lambda: None])
def test_nothing_that_is_written_fails_and_the_callers_streams_come_back(monkeypatch, make):
    out, err = make(), make()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with Streams(is_process=False):
        say("done")
        say("refused", sys.stderr)
        ProgressBar([1], each=1).close()
        sys.stdout.write("a package speaks")
        sys.stdout.flush()
        sys.stderr.writelines(["a", "b"])
    assert (sys.stdout, sys.stderr) == (out, err)
    code = main(["upscale", "nowhere.png", "-o", "out.png"])
    assert code == 2


def test_what_can_be_said_is(capsys):
    with Streams(is_process=False):
        say("done")
        sys.stderr.write("a\n")
    assert capsys.readouterr() == ("done\n", "a\n")


REDIRECTS = ["<&- >&- 2>&-", "2>&-"] + [f"{n}>/dev/full" for n in (1, 2) if Path("/dev/full").exists()] + ["| true"]


@pytest.mark.parametrize("redirect", REDIRECTS)
def test_a_batch_is_made_whoever_listens(tmp_path, weights, redirect):
    for name in "ab":
        make_photo(tmp_path / "in" / f"{name}.png")
    words = f"in -o out --scale 1 --steps 1 --model {weights} {redirect}; echo ${{PIPESTATUS[0]}} >code"
    command = f"{sys.executable} -m adadiffsr_core.cli upscale {words}"
    root = str(Path(__file__).resolve().parents[3])
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, check=True)
    assert (tmp_path / "code").read_text() == "0\n"
    assert files_in(tmp_path / "out") == ["a.png", "b.png"]
