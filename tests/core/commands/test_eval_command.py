"""`adadiffsr eval`: test sets, methods, comparisons and the command itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.cli import main
from adadiffsr_core.commands.interrupts import STOPPED
from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.evaluation import sets
from adadiffsr_core.evaluation.curve import compare, compare_at_equal_nfe
from adadiffsr_core.evaluation.methods import BICUBIC, Method, adaptive, uniform
from adadiffsr_core.evaluation.restore import Bench, full_steps
from adadiffsr_core.evaluation.sets import Picture, choose, make_pairs, parse_set, read_photos
from adadiffsr_core.evaluation.stopwatch import Stopwatch
from adadiffsr_core.evaluation.table import describe
from adadiffsr_core.evaluation.tables import INTERVALS, build_tables, choose_tables
from adadiffsr_core.models.checkpoint import Checkpoint, save_checkpoint
from adadiffsr_core.models.model import Model
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.settings import PRESETS
from tests.oracles import randomise

NETWORKS = {"model": "a", "mmle": "b", "pfj": "c"}


def make_model():
    unet = randomise(UNet(UNetConfig(model_channels=32, channel_mult=(1,), num_res_blocks=1)), 1)
    coder = randomise(Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))), 2)
    return Model(unet.eval(), coder.eval(), Schedule("v"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = make_model()
    tensors = {f"model.diffusion_model.{key}": value for key, value in model.unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in model.autoencoder.state_dict().items()}
    config = {
        "unet": model.unet.config.to_dict(),
        "autoencoder": model.autoencoder.config.to_dict(),
        "schedule": {"prediction": "v"},
    }
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_checkpoint(Checkpoint("ldm", config, tensors), path)
    return path


def save_noise(folder, count, side, first=0):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        pixels = torch.rand(3, side, side, generator=torch.Generator().manual_seed(number))
        write_photo(Photo(pixels=pixels), folder / f"{number}.png")


@pytest.fixture
def pairs(tmp_path):
    save_noise(tmp_path / "lq", 3, 8)
    save_noise(tmp_path / "gt", 3, 32)
    return tmp_path


def words(folder, weights, *more):
    sets = f"--pairs=T={folder / 'lq'}:{folder / 'gt'}"
    given = ["eval", "--out", str(folder / "out"), sets, "--model", str(weights), "--metrics", "psnr", "--threads", "1"]
    return [*given, "--comparisons", "1", *more]


def stored(folder):
    return {path.name: path.read_bytes() for path in (folder / "out" / "values").iterdir()}


def test_a_regressor_that_is_not_there_is_asked_for():
    picture = Picture("T", "0", None, None)
    with pytest.raises(ConfigError, match="needs an MMLE regressor"):
        Bench(make_model())._choose_estimator(adaptive("x"))
    with pytest.raises(ConfigError, match="needs the feature injection pfj"):
        Bench(make_model())._choose_networks(adaptive("x"))
    assert Bench(make_model()).ours.estimate == "latent"
    assert picture.key == "T/0"


def test_one_seed_makes_one_picture(pairs):
    bench = Bench(make_model())
    picture = Picture("T", "0", pairs / "lq" / "0.png", pairs / "gt" / "0.png")
    method = replace(adaptive("latent"), estimate="latent", injection="")
    once, again = (bench.restore(method, picture, 3) for _ in range(2))
    assert torch.equal(once.image, again.image)
    assert once.image.shape == (1, 3, 32, 32)
    assert once.nfe == again.nfe > 0
    other = bench.restore(method, picture, 4)
    assert not torch.equal(once.image, other.image)


def test_results_are_as_a_saved_file_would_have_them(pairs):
    made = Bench(make_model()).restore(uniform(6, injection=""), Picture("T", "1", pairs / "lq" / "1.png", None), 0)
    write_photo(Photo(pixels=made.image[0]), pairs / "made.png")
    assert torch.allclose(read_photo(pairs / "made.png").pixels, made.image[0], atol=1e-6)


def test_the_picture_of_all_steps_is_uniform_sampling():
    full = full_steps(adaptive("x"))
    assert full.sampling == PRESETS["everyday"].uniform(1)
    assert full.sampling.dtss.is_uniform


def test_missing_pictures_of_another_method_are_named(pairs):
    method = Method(name="rival", kind="pictures", folder=pairs / "rival")
    with pytest.raises(ImageError, match=r"rival has no picture .*0\.png"):
        Bench(make_model()).restore(method, Picture("T", "0", pairs / "lq" / "0.png", None), 0)


@pytest.mark.parametrize(
    ("change", "network"), [({}, "model"), ({}, "mmle"), ({}, "pfj"), ({"injection": ""}, "model")]
)
def test_a_changed_network_starts_new_numbers(change, network):
    method = replace(adaptive("x"), **change)
    assert method.fingerprint(NETWORKS) != method.fingerprint({**NETWORKS, network: "new"})


def test_what_a_method_does_not_use_leaves_its_numbers():
    plain = uniform(2, injection="")
    assert plain.fingerprint(NETWORKS) == plain.fingerprint({"model": "a"})
    assert BICUBIC.fingerprint(NETWORKS) == BICUBIC.fingerprint({})
    assert plain.fingerprint(NETWORKS) == replace(plain, name="y", every=3).fingerprint(NETWORKS)
    assert plain.fingerprint(NETWORKS) != uniform(3, injection="").fingerprint(NETWORKS)


def test_numbers_of_other_machines_are_kept_apart_and_old_ones_are_found_again():
    known = {"06e8fd1a13": adaptive("x"), "3cee239850": uniform(2, injection=""), "fffc556d87": BICUBIC}
    for word, method in known.items():
        assert method.fingerprint(NETWORKS) == word  # or values that are stored would be lost
        words = {method.fingerprint({**NETWORKS, "machine": machine}) for machine in ("cuda float16", "cpu bfloat16")}
        assert len(words | {word}) == 3


def test_time_is_that_of_this_process():
    watch = Stopwatch(torch.device("cpu"))
    first = watch.read()
    time.sleep(0.05)
    assert 0 <= first <= watch.read() < first + 0.05


def test_halves_part_the_pictures():
    pictures = [Picture("T", str(number), None, None) for number in range(9)]
    first, second = choose(pictures, "first"), choose(pictures, "second")
    assert sorted(first + second, key=lambda picture: picture.name) == pictures
    assert not set(first) & set(second)
    assert choose(pictures, "first", every=2) == [pictures[0], pictures[4], pictures[8]]
    assert choose(pictures, limit=2) == pictures[:2]


def test_made_pairs_depend_on_the_file_name_alone(tmp_path):
    save_noise(tmp_path / "all", 3, 66)
    save_noise(tmp_path / "some", 1, 66, first=2)
    every = {pair.name: read_photo(pair.lq).pixels for pair in make_pairs("A", [tmp_path / "all"], tmp_path / "x")}
    some = make_pairs("A", [tmp_path / "some"], tmp_path / "y")
    assert torch.equal(read_photo(some[0].lq).pixels, every["2"])
    assert read_photo(some[0].gt).pixels.shape == (3, 64, 64)
    assert every["2"].shape == (3, 16, 16)


def test_made_pairs_are_kept_until_their_photograph_is_another(tmp_path):
    save_noise(tmp_path / "all", 2, 32)
    before = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    states = {pair.name: (pair.lq.stat().st_mtime_ns, pair.lq.read_bytes()) for pair in before}
    (tmp_path / "all" / "1.png").unlink()
    save_noise(tmp_path / "other", 1, 40, first=1)
    (tmp_path / "other" / "1.png").rename(tmp_path / "all" / "1.png")
    kept, made = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    assert (kept.lq.stat().st_mtime_ns, kept.lq.read_bytes()) == states["0"]
    assert read_photo(made.gt).pixels.shape == (3, 40, 40)
    assert made.lq.read_bytes() == make_pairs("A", [tmp_path / "all"], tmp_path / "new")[1].lq.read_bytes()


def test_a_pair_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    """Whenever it was: no low-quality picture stays that is of another truth."""
    save_noise(tmp_path / "all", 1, 32)
    (pair,) = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    save_noise(tmp_path / "other", 1, 40, first=1)
    (tmp_path / "other" / "1.png").replace(tmp_path / "all" / "0.png")
    write, written = sets.write_photo, []

    def stop(photo, path):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(photo, path)

    monkeypatch.setattr(sets, "write_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    monkeypatch.setattr(sets, "write_photo", write)
    make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    (fresh,) = make_pairs("A", [tmp_path / "all"], tmp_path / "new")
    assert [pair.lq.read_bytes(), pair.gt.read_bytes()] == [fresh.lq.read_bytes(), fresh.gt.read_bytes()]


@pytest.mark.parametrize("text", ["RealSR", "=x", "a=", "a/b=x", "a=:x", "a=x:", "a=x::y"])
def test_a_test_set_without_name_or_folder_is_refused(text):
    with pytest.raises(ConfigError, match="NAME=FOLDER"):
        parse_set(text)


@pytest.mark.parametrize("text", ["..=x", ".=x", "CON=x", "a\x1b=x", "a =x"])
def test_a_test_set_is_named_as_a_folder_can_be(text):
    """Its pictures go into one of that name, which must not lie anywhere else."""
    with pytest.raises(ConfigError, match="cannot be a file's name"):
        parse_set(text)


@pytest.mark.parametrize("read", [read_photos, lambda name, folders: make_pairs(name, folders, folders[0] / "out")])
@pytest.mark.parametrize("names", [("a/x.png", "a/x.jpg"), ("a/x.png", "b/x.png")])
def test_two_files_of_one_name_are_refused_rather_than_one_lost(tmp_path, read, names):
    for folder in ("a", "b"):
        save_noise(tmp_path / folder, 1, 16)
    for name in names:
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / name)
    (tmp_path / "b" / "0.png").rename(tmp_path / "b" / "1.png")
    with pytest.raises(ImageError, match="both mean x"):
        read("s", [tmp_path / "a", tmp_path / "b"])
    assert not (tmp_path / "a" / "out" / "s" / "lq" / "x.png").exists()


def test_a_picture_too_small_for_a_truth_is_named(tmp_path):
    save_noise(tmp_path / "tiny", 1, 3)
    with pytest.raises(ImageError, match=r"0\.png has 3 x 3 px"):
        make_pairs("s", [tmp_path / "tiny"], tmp_path / "out")
    save_noise(tmp_path / "small", 1, 4)
    (pair,) = make_pairs("s", [tmp_path / "small"], tmp_path / "out")
    assert read_photo(pair.lq).pixels.shape == (3, 1, 1)


def test_tables_are_chosen_by_name():
    tables = build_tables(adaptive("ours"), {}, ["pfj", "concat"])
    assert [table.name for table in choose_tables(["5", "1"], tables)] == ["1", "5"]
    assert len(choose_tables(["all"], tables)) == len(tables)
    assert choose_tables(["2"], tables) == []
    with pytest.raises(ConfigError, match="there is no table 9"):
        choose_tables(["9"], tables)


def test_the_papers_intervals_are_base_steps_of_its_preset():
    rows = build_tables(adaptive("ours"), {}, [])["3"].methods
    assert [row.name for row in rows] == [str(intervals).replace(" ", "") for intervals in INTERVALS]
    for row, intervals in zip(rows, INTERVALS, strict=True):
        sampling = row.sampling
        assert [1000 // sampling.steps * step for step in sampling.dtss.intervals] == list(intervals)
        assert sampling.solver == "ddpm"


def test_injections_that_are_not_there_are_not_compared():
    assert [method.name for method in build_tables(adaptive("ours"), {}, ["pfj"])["5"].methods] == ["none", "PFJ"]
    names = [
        method.name for method in build_tables(adaptive("ours"), {}, ["pfj", "concat", "cross_attention"])["5"].methods
    ]
    assert names == ["none", "concat", "cross_attention", "PFJ"]


def values(rows):
    """(picture, seed) -> (nfe, psnr, niqe) as the stores hold them."""
    return {f"T/{p}/{s}": {"nfe": n, "psnr": a, "niqe": b} for (p, s), (n, a, b) in rows.items()}


@given(st.floats(6, 24))
def test_on_the_line_of_uniform_sampling_there_is_no_difference(nfe):
    uniforms = [values({("a", 0): (n, 20 + n, 10 - n / 4)}) for n in (24, 12, 6)]
    (psnr, niqe) = compare_at_equal_nfe(values({("a", 0): (nfe, 20 + nfe, 10 - nfe / 4)}), uniforms, ("psnr", "niqe"))
    assert psnr.mean == pytest.approx(0, abs=1e-9)
    assert niqe.mean == pytest.approx(0, abs=1e-9)


def test_differences_are_means_over_pictures_and_spreads_over_seeds():
    base = values({(p, s): (12, 25.0, 8.0) for p in "ab" for s in (0, 1)})
    ours = {("a", 0): (12, 26.0, 7.0), ("a", 1): (12, 26.4, 7.0), ("b", 0): (12, 27.0, 7.0), ("b", 1): (12, 27.4, 7.0)}
    psnr, niqe = compare(values(ours), base, ("psnr", "niqe"))
    assert psnr.mean == pytest.approx(1.7)
    assert psnr.error == pytest.approx(np.std([1.2, 2.2], ddof=1) / 2**0.5)
    assert psnr.spread == pytest.approx(np.std([1.5, 1.9], ddof=1))
    assert psnr.relative == pytest.approx(1.7 / 25)
    assert (psnr.verdict, niqe.verdict) == ("better", "better")


def test_a_difference_no_larger_than_its_spread_is_none():
    base = values({("a", s): (12, 25.0, 8.0) for s in (0, 1)})
    ours = values({("a", 0): (12, 25.5, 9.0), ("a", 1): (12, 24.7, 9.0)})
    psnr, niqe = compare(ours, base, ("psnr", "niqe"))
    assert (psnr.verdict, niqe.verdict) == ("within spread", "worse")


def test_nothing_in_common_is_refused():
    with pytest.raises(ConfigError, match="no picture in common"):
        compare(values({("a", 0): (1, 1, 1)}), values({("b", 0): (1, 1, 1)}), ("psnr",))


def test_numbers_read_in_their_own_direction():
    assert describe("full_psnr").higher_is_better
    assert not describe("full_st_lpips").higher_is_better
    assert not describe("nfe").higher_is_better


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
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_a_sentence(pairs, weights, capsys, more, message):
    assert main(words(pairs, weights, *more)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("adadiffsr: ")
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
