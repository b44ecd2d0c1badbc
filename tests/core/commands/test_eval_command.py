"""`adadiffsr eval`: tables that are written and gone on with, by one process or more, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from adadiffsr_core.cli import main
from adadiffsr_core.commands.interrupts import STOPPED
from adadiffsr_core.models.checkpoint import save_checkpoint
from tests import evaluated
from tests.evaluated import make_model, save_noise
from tests.oracles import to_checkpoint

pairs = evaluated.pairs


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = make_model()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_checkpoint(to_checkpoint(model.unet, model.autoencoder), path)
    return path


def words(folder, weights, *more):
    sets = f"--pairs=T={folder / 'lq'}:{folder / 'gt'}"
    given = ["eval", "--out", str(folder / "out"), sets, "--model", str(weights), "--metrics", "psnr", "--threads", "1"]
    return [*given, "--comparisons", "1", *more]


def stored(folder):
    return {path.name: path.read_bytes() for path in (folder / "out" / "values").iterdir()}


def test_tables_are_written_and_an_evaluation_goes_on_after_a_stop(pairs, weights):
    more = ("--tables", "1,curve", "--seeds", "0,1")
    assert main(words(pairs, weights, *more, "--limit", "1")) == 0
    first = stored(pairs)
    assert main(words(pairs, weights, *more, "--limit", "1")) == 0
    assert stored(pairs) == first
    assert main(words(pairs, weights, *more)) == 0
    for name, text in stored(pairs).items():
        before, after = (json.loads(content)["values"] for content in (first[name], text))
        assert {key: after[key] for key in before} == before
        assert len(after) >= 3
    out = pairs / "out"
    assert (out / "curve-psnr.png").stat().st_size > 1000
    assert "Against the same course for every tile" in (out / "tables.md").read_text()
    rows = {
        name: {tuple(line.split(",")[1:3]) for line in (out / f"table-{name}.csv").read_text().splitlines()}
        for name in ("1", "curve")
    }
    assert ("metric", "method") in rows["curve"]
    assert {method for metric, method in rows["1"] if metric == "nfe"} == {"none", "ours"}
    assert {name for name, each in rows.items() if any(metric == "full_psnr" for metric, _ in each)} == {"curve"}
    assert {path.name for path in (out / "pictures" / "T").iterdir()} == {"0.png", "0-map.png"}


def test_one_more_metric_is_measured_beside_those_that_are_there(pairs, weights):
    more = ("--tables", "1", "--limit", "1", "--comparisons", "0")
    assert main(words(pairs, weights, *more)) == 0
    first = stored(pairs)
    assert main(words(pairs, weights, *more, "--metrics", "psnr,psnr_y")) == 0
    for name, text in stored(pairs).items():
        before, after = (json.loads(content)["values"] for content in (first[name], text))
        assert before.keys() == after.keys()
        assert all(after[key]["psnr"] == row["psnr"] and "psnr_y" in after[key] for key, row in before.items())


def test_tables_become_pages_of_their_own(pairs, weights):
    docs = pairs / "docs"
    assert (
        main(words(pairs, weights, "--tables", "1,4", "--limit", "1", "--comparisons", "0", "--docs", str(docs))) == 0
    )
    assert sorted(path.name for path in docs.iterdir()) == ["table-1.md", "table-4.md"]
    whole = (pairs / "out" / "tables.md").read_text()
    for path in docs.iterdir():
        title, rest = path.read_text().split("\n", 1)
        assert title.startswith("# Table ")
        assert "\n".join(rest.splitlines()[:6]) in whole


def test_what_two_tables_call_by_two_names_is_measured_once(pairs, weights):
    """Or a run that was stopped in between would hold other files than one that was not."""
    assert main(words(pairs, weights, "--tables", "1,4,6,7", "--seeds", "0,1")) == 0
    measured = {}
    for name, data in stored(pairs).items():
        fingerprint = name.split("-", 1)[1]
        measured.setdefault(fingerprint, []).extend(json.loads(data)["values"])
    assert all(len(keys) == len(set(keys)) for keys in measured.values())
    assert max(map(len, measured.values())) == 6


def test_below_a_table_ours_is_compared_with_the_others_seed_by_seed(pairs, weights):
    assert main(words(pairs, weights, "--tables", "1", "--seeds", "0,1", "--comparisons", "0")) == 0
    values = {
        name.partition("-")[0]: {key: row["psnr"] for key, row in json.loads(text)["values"].items()}
        for name, text in stored(pairs).items()
    }
    assert {key[-1] for key in values["bicubic"]} == {"0"}
    # Of a model without regressor and injection "ours" is "none", and measured as that.
    assert {key[-1] for key in values["none"]} == {"0", "1"}
    gains = [values["none"][key] - number for key, number in values["bicubic"].items()]
    _, _, below = (pairs / "out" / "tables.md").read_text().partition("### ours against the others")
    header, _, row = (line for line in below.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["metric", "bicubic", "none"]
    assert row.startswith(f"| psnr ↑ | {np.mean(gains):+.3f} ± {np.std(gains, ddof=1) / len(gains) ** 0.5:.3f} (")
    assert "seeds 0.0" in row.split("|")[3]


def test_another_precision_starts_new_numbers(pairs, weights):
    more = ("--tables", "1", "--comparisons", "0", "--limit", "1", "--device", "cpu")
    assert main(words(pairs, weights, *more)) == 0
    before = stored(pairs)
    assert main(words(pairs, weights, *more, "--dtype", "float32")) == 0
    assert stored(pairs) == before
    assert main(words(pairs, weights, *more, "--dtype", "bfloat16")) == 0
    after = stored(pairs)
    assert before.items() <= after.items()
    assert len(after) == 2 * len(before)
    rows = [json.loads(text)["values"]["T/0/0"]["psnr"] for name, text in after.items() if name.startswith("none")]
    assert rows[0] == pytest.approx(rows[1], abs=0.5)
    assert rows[0] != rows[1]


def test_two_processes_find_what_one_finds(pairs, weights):
    def table(*more):
        assert main(words(pairs, weights, "--tables", "1", "--comparisons", "0", *more)) == 0
        kept = [line for line in (pairs / "out" / "tables.md").read_text().splitlines() if "seconds" not in line]
        names = sorted(stored(pairs))
        shutil.rmtree(pairs / "out")
        return kept, names

    alone, names = table()
    together, shared = table("--jobs", "2")
    assert together == alone
    assert len(shared) == 2 * len(names)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--tables", "9"), "there is no table 9"),
        (("--seeds", "x"), "seeds must be whole numbers"),
        (("--jobs", "0"), "--jobs"),
        (("--jobs", "100000"), "--jobs must be from 1 to"),
        (("--pairs", "U=a:b"), "is not a folder"),
        (("--photos", "nowhere"), "NAME=FOLDER"),
        (("--metrics", "beauty"), "there is no metric beauty"),
        (("--device", "meta"), "device 'meta' cannot be used"),
        (("--limit", "-1"), "--limit must be at least 1, got -1"),
        (("--limit", "0"), "--limit must be at least 1"),
        (("--comparisons", "-1"), "--comparisons must be at least 0"),
        (("--seeds", ""), "names nothing"),
        (("--metrics", ","), "names nothing"),
        (("--tables", ""), "names nothing"),
        (("--seeds", str(2**64)), "seeds must be whole numbers from 0 to 18446744073709551615"),
        (("--seeds", "1" * 5000), "seeds must be whole numbers from 0 to 18446744073709551615"),
        (("--pictures", "x=nofolder"), "nofolder, the pictures of 'x', is not a folder"),
        (("--pictures", "x=.", "--pictures", "x=.."), "--pictures names 'x' twice"),
        (("--pictures", "ours=."), "has 'ours' already"),
        (("--pfj", "x=a", "--pfj", "x=b"), "--pfj names 'x' twice"),
        (("--iqa-weights", "nofolder"), "'nofolder' is not a folder"),
        (("--out", __file__), "is a file, and a folder is needed"),
        (("--out", f"{__file__}/out"), "is a file, and a folder is needed"),
        (("--docs", __file__), "is a file, and a folder is needed"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(pairs, weights, capsys, more, message):
    assert main(words(pairs, weights, *more)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("adadiffsr: ")
    assert not (pairs / "out").exists()


@pytest.mark.parametrize("place", ["lq/2.png", "gt/2.png", "results/T/2.png"])
def test_a_damaged_picture_is_named_before_anything_is_measured(pairs, weights, capsys, place):
    shutil.copytree(pairs / "gt", pairs / "results" / "T")
    whole = (pairs / place).read_bytes()
    (pairs / place).write_bytes(whole[: len(whole) // 2])
    assert main(words(pairs, weights, "--tables", "1", "--pictures", f"rival={pairs / 'results'}")) == 2
    (refused,) = read_refusal(capsys)
    assert f"{pairs / place} is damaged or cut short" in refused
    assert not (pairs / "out").exists()


@pytest.mark.parametrize("more", [(), ("--jobs", "2")])
def test_a_truth_of_another_size_is_named(pairs, weights, capfd, more):
    save_noise(pairs / "wrong", 1, 20, first=1)
    (pairs / "wrong" / "1.png").replace(pairs / "gt" / "1.png")
    assert main(words(pairs, weights, "--tables", "1", *more)) == 2
    said = capfd.readouterr().err
    assert "1.png has 20 x 20 px, and what bicubic makes of it 32 x 32; a truth is 4 times as large" in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_ctrl_c_ends_every_process_at_once_and_keeps_what_is_measured(pairs, weights, to_all, late):
    shutil.rmtree(pairs / "gt")
    shutil.rmtree(pairs / "lq")
    save_noise(pairs / "lq", 40, 8)
    save_noise(pairs / "gt", 40, 32)
    given = words(pairs, weights, "--tables", "curve", "--seeds", "0,1,2,3", "--jobs", "2", "--device", "cpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "adadiffsr_core.cli", *given],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    values = pairs / "out" / "values"
    wanted = "*.1.json" if late else "*.0.json"  # of the helper, or of the first, which has less to import
    while not list(values.glob(wanted)):
        time.sleep(0.05)
        assert process.poll() is None
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT) if to_all else process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]  # until the last of them has closed it
    assert process.returncode == 130
    assert time.monotonic() - begun < 15
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].endswith(STOPPED)
    assert all(json.loads(path.read_text())["values"] for path in values.iterdir())
    assert not list(values.glob(".*"))


def read_refusal(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("adadiffsr: ")]


@pytest.mark.parametrize("side", ["lq", "gt"])
def test_numbers_of_other_pictures_are_never_shown(pairs, weights, side, capsys):
    (pairs / "results" / "T").mkdir(parents=True)
    for file in (pairs / "gt").iterdir():
        shutil.copy(file, pairs / "results" / "T")
    told = words(pairs, weights, "--tables", "1", "--pictures", f"rival={pairs / 'results'}")
    assert main(told) == 0
    values = {path: path.read_bytes() for path in (pairs / "out" / "values").iterdir()}
    assert main(told) == 0  # the same files elsewhere would do, too
    for changed, key in ((pairs / side / "1.png", f"T/1 {side}"), (pairs / "results" / "T" / "2.png", "T/2 rival")):
        before = changed.read_bytes()
        shutil.copy(pairs / side / "0.png", changed)
        capsys.readouterr()
        assert main(told) == 2
        (refused,) = read_refusal(capsys)
        assert f"{changed} is not what {pairs / 'out'} has numbers of as {key}; choose another --out" in refused
        changed.write_bytes(before)
    assert {path: path.read_bytes() for path in (pairs / "out" / "values").iterdir()} == values
    save_noise(pairs / "more", 1, 8, first=7)
    assert main([*told, f"--photos=M={pairs / 'more'}"]) == 0  # more is no other


def test_pictures_that_are_left_out_are_told(pairs, weights, capsys):
    save_noise(pairs / "extra", 2, 8, first=7)
    (pairs / "extra" / "7.png").rename(pairs / "lq" / "lone.png")
    (pairs / "extra" / "8.png").rename(pairs / "gt" / "alone.gif")
    (pairs / "gt" / "notes.txt").write_text("no picture")
    assert main(words(pairs, weights, "--tables", "1", "--limit", "1")) == 0
    (told,) = read_refusal(capsys)
    assert told.startswith(f"adadiffsr: T is without {pairs / 'lq' / 'lone.png'}, {pairs / 'gt' / 'alone.gif'}: ")
    assert "partner" in told


def test_results_of_another_method_that_no_set_finds_are_refused(pairs, weights, capsys):
    (pairs / "results").mkdir()
    assert main(words(pairs, weights, "--tables", "1", "--pictures", f"rival={pairs / 'results'}")) == 2
    (refused,) = read_refusal(capsys)
    assert refused.endswith(f"has no folder named as a test set (T); put them into {pairs / 'results' / 'T'}")
    assert not (pairs / "out").exists()
