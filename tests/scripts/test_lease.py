"""One lease from end to end, with a stand-in for training that takes seconds."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.device.join import join
from scripts.device.progress import Progress
from scripts.device.stages import plan_stages
from scripts.device.train import build_parser, main, read_lease

TRAINER = f"{sys.executable} {Path(__file__).with_name('trainer.py')}"
SCRIPT = Path(__file__).parents[2] / "scripts" / "train_on_device.sh"


@pytest.fixture
def pack(tmp_path):
    (tmp_path / "pack" / "photos").mkdir(parents=True)
    return tmp_path / "pack"


def words(folder, pack, *more, minutes=0.3):
    return [
        str(pack), str(folder / "out"), "--minutes", str(minutes), "--work", str(folder / "work"), "--device", "cpu",
        "--save-seconds", "1", "--start-up-seconds", "1", "--closing-seconds", "4", "--command", TRAINER,
        *map(str, more),
    ]  # fmt: skip


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    return main()


def config(folder, **values):
    path = folder / f"{'_'.join(map(str, values.values())).replace(' ', '_')}.json"
    path.write_text(json.dumps(values))
    return path


def told(folder, kind):
    """What the stage's command was given."""
    return json.loads((folder / "work" / kind / "words.json").read_text())


def test_one_command_trains_both_and_what_is_joined_equals_what_was_trained(tmp_path, pack):
    started = time.monotonic()
    done = subprocess.run(
        ["sh", str(SCRIPT), *words(tmp_path, pack, "--ldm-config", config(tmp_path, size=33 * 2**20))],
        env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 0.3 * 60 + 60  # it would hang for ever  # a busy machine starts Python slowly
    assert "80 samples/s" in done.stdout
    assert "min left]" in done.stdout
    files = list((tmp_path / "out" / "results").iterdir())
    assert len(files) <= 8
    assert max(file.stat().st_size for file in files) <= 16 * 2**20
    join(tmp_path / "out", tmp_path / "joined")
    for kind in ("autoencoder", "ldm"):
        trained = (tmp_path / "work" / kind / "weights.safetensors").read_bytes()
        assert (tmp_path / "joined" / f"{kind}.safetensors").read_bytes() == trained
    assert "minutes of training" in (tmp_path / "joined" / "reports" / "log.txt").read_text()
    assert told(tmp_path, "ldm")[told(tmp_path, "ldm").index("--autoencoder") + 1].endswith(
        "work/autoencoder/weights.safetensors"
    )


def test_results_come_out_while_it_trains_and_survive_its_end_by_force(tmp_path, pack):
    process = subprocess.Popen(["sh", str(SCRIPT), *words(tmp_path, pack, minutes=3)], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env={**os.environ, "PYTHON": sys.executable})  # fmt: skip
    try:
        for _ in range(200):
            time.sleep(0.1)
            if (tmp_path / "out" / "results").is_dir():
                break
        time.sleep(1)
    finally:
        process.kill()
        process.communicate()
    join(tmp_path / "out", tmp_path / "joined")
    assert (tmp_path / "joined" / "autoencoder.safetensors").read_bytes().startswith(b"autoencoder ")


def test_told_to_stop_it_still_brings_the_newest_home(tmp_path, pack):
    process = subprocess.Popen(["sh", str(SCRIPT), *words(tmp_path, pack, "--save-seconds", 1000, minutes=3)],
                               stdout=subprocess.PIPE, env={**os.environ, "PYTHON": sys.executable})  # fmt: skip
    while not (tmp_path / "work" / "autoencoder" / "weights.safetensors").is_file():
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 130
    join(tmp_path / "out", tmp_path / "joined")
    trained = (tmp_path / "work" / "autoencoder" / "weights.safetensors").read_bytes()
    assert (tmp_path / "joined" / "autoencoder.safetensors").read_bytes() == trained


def lease(folder, pack, *more):
    return read_lease(build_parser().parse_args(words(folder, pack, *more)))


def test_a_second_lease_goes_on_with_the_diffusion_model_alone(tmp_path, pack):
    joined = tmp_path / "joined"
    joined.mkdir()
    for kind in ("autoencoder", "ldm"):
        (joined / f"{kind}.safetensors").write_bytes(b"weights")
    (stage,) = plan_stages(lease(tmp_path, pack, "--from", joined))
    assert (stage.kind, stage.seconds) == ("ldm", None)
    given = dict(zip(stage.words, stage.words[1:], strict=False))
    assert given["--init"] == str(joined / "ldm.safetensors")
    assert given["--autoencoder"] == str(joined / "autoencoder.safetensors")


def test_a_second_lease_trains_the_decoder_too_if_asked(tmp_path, pack):
    joined = tmp_path / "joined"
    joined.mkdir()
    (joined / "ldm.safetensors").write_bytes(b"weights")
    stages = plan_stages(lease(tmp_path, pack, "--from", joined, "--autoencoder-minutes", 2))
    assert [(stage.kind, stage.seconds) for stage in stages] == [("autoencoder", 120), ("ldm", None)]
    first, second = (dict(zip(stage.words, stage.words[1:], strict=False)) for stage in stages)
    assert first["--init"] == second["--init"] == str(joined / "ldm.safetensors")
    assert second["--autoencoder"] == str(stages[0].weights)


def test_a_lease_ends_with_the_finish_and_both_models_come_home(tmp_path, pack, monkeypatch, capsys):
    assert run(monkeypatch, *words(tmp_path, pack, "--finish-minutes", 0.05)) == 0
    join(tmp_path / "out", tmp_path / "joined")
    for kind in ("autoencoder", "ldm", "finish"):
        trained = (tmp_path / "work" / kind / "weights.safetensors").read_bytes()
        assert (tmp_path / "joined" / f"{kind}.safetensors").read_bytes() == trained
    given = told(tmp_path, "finish")
    assert given[:2] == ["train", "ldm"]
    assert "--finish" in given
    assert "--finish" not in told(tmp_path, "ldm")
    assert given[given.index("--init") + 1].endswith("work/ldm/weights.safetensors")
    assert float(given[given.index("--minutes") + 1]) >= 0.05 - 0.01


def test_states_are_saved_every_minute_unless_the_recipe_says_otherwise(tmp_path, pack):
    mine = config(tmp_path, loop={"steps": 7, "save_minutes": 0.5}, holdout=0.2)
    for stage in plan_stages(lease(tmp_path, pack, "--ldm-config", mine)):
        given = json.loads(Path(stage.words[stage.words.index("--config") + 1]).read_text())
        if stage.kind == "ldm":
            assert given["holdout"] == 0.2
            assert given["loop"].items() >= {"steps": 7, "save_minutes": 0.5}.items()
        else:
            assert given["loop"]["save_minutes"] == 1 / 60
        assert given["loop"]["save_every"] > 10**6  # else fast steps would do little but save


def test_further_words_reach_the_command(tmp_path, pack):
    one, other = plan_stages(lease(tmp_path, pack, "--autoencoder-words=--compile --steps 7", "--threads", 3))
    assert one.words[-5:] == ("--threads", "3", "--compile", "--steps", "7")
    assert "--compile" not in other.words


def test_a_training_that_does_not_end_is_stopped_and_its_last_state_comes_home(tmp_path, pack, monkeypatch, capsys):
    hanging = config(tmp_path, fate="hang")
    started = time.monotonic()
    more = ("--autoencoder-config", hanging, "--autoencoder-minutes", 0.05, "--ldm-config", hanging)
    assert run(monkeypatch, *words(tmp_path, pack, *more, minutes=0.5)) == 0
    assert time.monotonic() - started < 0.5 * 60 + 60  # it would hang for ever
    join(tmp_path / "out", tmp_path / "joined")
    for kind in ("autoencoder", "ldm"):
        trained = (tmp_path / "work" / kind / "weights.safetensors").read_bytes()
        assert (tmp_path / "joined" / f"{kind}.safetensors").read_bytes() == trained


def test_a_training_that_fails_at_once_ends_everything_and_the_log_comes_home(tmp_path, pack, monkeypatch, capsys):
    more = ("--autoencoder-config", config(tmp_path, fate="fail early"))
    started = time.monotonic()
    assert run(monkeypatch, *words(tmp_path, pack, *more, minutes=9)) == 3
    assert time.monotonic() - started < 20
    assert "left no weights (exit code 3)" in capsys.readouterr().out
    join(tmp_path / "out", tmp_path / "joined")
    assert "left no weights" in (tmp_path / "joined" / "reports" / "log.txt").read_text()


def test_what_failed_late_is_tried_again_and_then_used_as_it_is(tmp_path, pack, monkeypatch, capsys):
    more = ("--autoencoder-config", config(tmp_path, fate="fail late"))
    assert run(monkeypatch, *words(tmp_path, pack, *more)) == 0
    out = capsys.readouterr().out
    assert out.count("it goes on from its last state") == 1
    join(tmp_path / "out", tmp_path / "joined")
    assert (tmp_path / "joined" / "ldm.safetensors").is_file()


@pytest.mark.parametrize(
    ("bar", "line"),
    [
        (
            "ldm:  12%|# | 900/7500 [00:36<04:24, 25.0it/s, total=0.03]",
            "ldm step 900 of 7500, 25.00 steps/s, total=0.03",
        ),
        ("ldm: 900it [00:36, 25.00it/s, total=0.03]", "ldm step 900, 25.00 steps/s, total=0.03"),
        ("ldm: 0it [00:00, ?it/s]", "ldm step 0, no figures yet"),
        ("ldm:   0%|  | 0/20 [00:00<?, ?it/s]", "ldm step 0 of 20, no figures yet"),
    ],
)
def test_every_form_of_a_bar_is_understood(tmp_path, bar, line):
    stream = io.StringIO()
    progress = Progress(stream, tmp_path / "log.txt", lambda: 1.0)
    progress.feed(f"\r{bar}\r")
    progress.close()
    assert stream.getvalue() == f"[ 1.0 min left] {line}\n"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--minutes", "0"], "must be positive"),
        (["--from", "nowhere"], "no joined weights"),
        (["--minutes", "9", "--finish-minutes", "6"], "must leave some of the 9 minutes to the diffusion model"),
        (["--finish-minutes", "-1"], "must leave some"),
    ],
)
def test_what_cannot_be_is_refused_before_a_minute_is_spent(tmp_path, pack, monkeypatch, capsys, more, complaint):
    assert run(monkeypatch, *words(tmp_path, pack), *more) == 2
    assert complaint in capsys.readouterr().err
    assert run(monkeypatch, *words(tmp_path, tmp_path / "none")) == 2
    assert "scripts.device.pack" in capsys.readouterr().err


def test_a_bar_becomes_a_line_now_and_then_and_other_lines_pass(tmp_path):
    stream, now = io.StringIO(), [0.0]
    progress = Progress(stream, tmp_path / "log.txt", lambda: 4.2, every=15, clock=lambda: now[0])
    progress.batch = lambda: 32
    progress.feed("resumed ldm at step 3\nsecond ")
    progress.feed("line\n")
    for step in range(1, 61):
        now[0] += 1
        bar = f"ldm:  1%|3 | {step}/? [00:36, 2.00s/it, unet.total=0.03]"
        progress.feed(f"\r{bar[:20]}")  # a pipe cuts where it likes
        progress.feed(bar[20:])
    progress.feed("\nCUDA error")
    progress.flush()
    progress.close()
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["[ 4.2 min left] resumed ldm at step 3", "[ 4.2 min left] second line"]
    assert lines[2] == "[ 4.2 min left] ldm step 1, 0.50 steps/s, 16 samples/s, unet.total=0.03"
    assert len(lines) == 2 + 4 + 1
    assert lines[-1].endswith("CUDA error")
    assert (tmp_path / "log.txt").read_text() == stream.getvalue()
