"""Consoles of Windows that know some 250 letters show all that we say, and a mark for letters that they lack."""

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adadiffsr_core.commands.streams import Streams
from tests.core.commands.upscaled import make_photo

ROOT = Path(__file__).resolve().parents[3]
CONSOLE = "cp1252"
# Written into files alone, as UTF-8: pages of results, and letters that pictures are captioned with.
NEVER_SAID = {"adadiffsr_core/evaluation/table.py", "adadiffsr_core/drawing/lettering.py"}
FILES = [file for room in ("adadiffsr_core", "nodes") for file in sorted((ROOT / room).rglob("*.py"))]
WORDS = [[], ["upscale"], ["train"], ["eval"], *(["train", task] for task in ("mmle", "pfj", "ldm", "autoencoder"))]


# One process for all: what it imports takes longer than what it says.
HELP = """
import sys
from adadiffsr_core.cli import main
for words in {words}:
    sys.argv = ["adadiffsr", *words, "--help"]
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    print(end=f"\\0{{code}}\\0")
"""


def call_python(*words):
    environment = {**os.environ, "PYTHONIOENCODING": f"{CONSOLE}:strict", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0"}
    run = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, check=False)
    return run.returncode, run.stdout.decode(CONSOLE), run.stderr.decode(CONSOLE)


def call(*words):
    return call_python("-m", "adadiffsr_core.cli", *words)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_what_is_said_has_no_letter_that_a_console_lacks(file):
    if file.relative_to(ROOT).as_posix() in NEVER_SAID:
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isprintable():
            node.value.encode(CONSOLE)


def test_help_is_shown_whole():
    ended, out, err = call_python("-c", HELP.format(words=WORDS))
    assert (ended, err) == (0, "")
    *said, rest = out.split("\0")
    assert rest == ""
    for words, text, code in zip(WORDS, said[::2], said[1::2], strict=True):
        assert code == "0"
        assert text.startswith(f"usage: {' '.join(['adadiffsr', *words])}")
        assert "?" not in text


def test_a_photograph_with_a_foreign_name_is_told(weights, tmp_path):
    photo = make_photo(tmp_path / "文字.png")
    code, out, err = call("upscale", photo, "-o", tmp_path / "out.png", "--model", weights, "--steps", 4)
    assert (code, (tmp_path / "out.png").exists()) == (0, True), err
    assert "??.png: " in out
    assert "evaluations spent" in out


def test_a_refusal_of_a_foreign_name_is_told(tmp_path):
    code, _, err = call("upscale", tmp_path / "文字.png", "-o", tmp_path / "out.png")
    assert code == 2
    assert "??.png" in err


def test_whoever_writes_is_heard(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding=CONSOLE, errors="strict")
    monkeypatch.setattr(sys, "stdout", console)
    with Streams(is_process=False):
        sys.stdout.write("a package speaks of 文字 ↑\n")
    assert console.buffer.getvalue() == b"a package speaks of ?? ?\n"
