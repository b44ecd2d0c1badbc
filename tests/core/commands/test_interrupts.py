"""Ctrl-C is one sentence and 130, whenever it comes."""

import os
import re
import signal
import subprocess
import sys

import pytest

from adadiffsr_core.cli import main
from adadiffsr_core.commands.interrupts import STOPPED, Watch, stop_if_asked
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.sampling.turn import Progress

# Presses Ctrl-C when this module is about to be imported, as early and as late as imports go.
PRESS = """
import os, signal, sys
class Presser:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Presser())
from adadiffsr_core.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(
    "name", ["adadiffsr_core.commands.eval", "torch", "torch.nn", "adadiffsr_core.commands.upscale"]
)
def test_ctrl_c_during_start_up_is_one_sentence(name):
    done = subprocess.run([sys.executable, "-c", PRESS.format(name=name), "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{STOPPED}\n")


def test_ctrl_c_within_a_callback_of_libvips_stops_at_the_next_turn(capfd):
    callback = eval("lambda: signal.raise_signal(signal.SIGINT)", {"signal": signal, "__name__": "pyvips.glog"})  # noqa: S307
    with Watch(is_process=False):
        callback()
        with pytest.raises(KeyboardInterrupt):
            ProgressBar([1], each=1).update(Progress(nfe=1, expected_nfe=1))
    stop_if_asked()
    assert "Traceback" not in capfd.readouterr().err


def test_ctrl_c_anywhere_else_stops_at_once_and_the_callers_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with Watch(is_process=False), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_that_was_lost_is_in_the_exit_code(monkeypatch, capsys):
    def lose(args):
        exec("signal.raise_signal(signal.SIGINT)", {"signal": signal, "__name__": "pyvips"})  # noqa: S102
        return 0

    monkeypatch.setattr("adadiffsr_core.commands.upscale.run", lose)
    assert main(["upscale", "a.png", "-o", "b.png"]) == 130
    assert re.sub(r"\s+", " ", capsys.readouterr().err).strip() == STOPPED
