"""Train MMLE Regressor in the host's process: the embedded model through the loader, cancel, and the file it saves."""

import contextlib
import importlib
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from adadiffsr_core.training.walks.walked_model import OwnModel
from tests.host import tiny
from tests.host.api import find_messages
from tests.host.graphs import build_upscale
from tests.oracles import randomise

EXTRAS = ("cv2", "scipy", "matplotlib", "pyiqa")
SIDE = 64
SETTINGS = {
    "image_folder": "photos", "file_name": "learnt", "steps": 6, "walks": 4, "learning_rate": 1e-3,
    "reference": "lq", "metrics": "psnr, piqe", "seed": 0, "cfg": 1.0, "denoise": 1.0, "tile_size": SIDE,
}  # fmt: skip


@pytest.fixture(autouse=True)
def extras():
    for name in EXTRAS:
        pytest.importorskip(name, reason="the extras `train` and `iqa` are not installed")


def save_photos(folder, count=7, side=96):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"photo{number}.png")


@pytest.fixture
def places(pack, tmp_path, monkeypatch):
    """The host's folders, all in one of this test's own."""
    import folder_paths

    pack("nodes.host.folders").add_model_folder()
    models = tmp_path / "models" / "adadiffsr"
    models.mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "adadiffsr", ([str(models)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    save_photos(tmp_path / "input" / "photos")
    run = tmp_path / "user" / "__adadiffsr" / "training" / "learnt"
    return SimpleNamespace(root=tmp_path, models=models, run=run, file=models / "learnt.safetensors")


@pytest.fixture(scope="module")
def embedded(pack):
    with torch.inference_mode():
        model, vae, null_prompt, *_ = pack("nodes.loaders").LoadCheckpoint.execute("embedded model").args
    return {"model": model, "vae": vae, "positive": null_prompt}


@pytest.fixture
def train(pack, places, embedded):
    """Runs the node as the host does: within inference mode."""

    @torch.inference_mode()
    def run(**changes):
        return pack("nodes.training").TrainMmle.execute(**{**embedded, **SETTINGS, **changes})

    return run


@pytest.fixture
def refusal(pack):
    return pack("adadiffsr_core.errors").AdaDiffSRError


def draw_walks(module, folder, photos, subject, count=3):
    """Walks by either import of the core."""
    load = module("adadiffsr_core.training.walks.walks"), module("adadiffsr_core.data.dataset")
    dataset = load[1].PairDataset(find_images([photos]), load[1].PairConfig(size_px=SIDE, min_scale=1.0), 3, count)
    return load[0].build_walks(folder, dataset, subject, load[0].WalkConfig(visits=8, batch_size=2), 3)


def make_subject(pack, model, vae, positive, **more):
    more = {"negative": positive, **more}
    return pack("nodes.host.walks").HostModel(model=model, vae=vae, positive=positive, **more)


@pytest.mark.parametrize("with_pfj", [False, True])
def test_walks_through_the_host_are_our_own(pack, embedded, places, with_pfj):
    """One set of weights, hosted twice."""
    photos, injection = places.root / "input" / "photos", {}
    model = replace(load_model(), mmle=None, pfj=None)
    if with_pfj:
        shape = {"latent_channels": model.unet.config.out_channels, "channels": model.unet.config.widths}
        model = replace(model, pfj=randomise(Pfj(PfjConfig(**shape))))
        theirs = pack("adadiffsr_core.nets.pfj")
        twin = theirs.Pfj(theirs.PfjConfig(**shape))
        twin.load_state_dict(model.pfj.state_dict())
        injection = {"pfj": pack("nodes.host.networks").entrust(twin)}
    subjects = make_subject(pack, **embedded, **injection), OwnModel(model)
    theirs = draw_walks(pack, places.root / "theirs", photos, subjects[0])
    ours = draw_walks(importlib.import_module, places.root / "ours", photos, subjects[1])
    for name in ("gt", "index"):
        assert np.array_equal(getattr(theirs, name), getattr(ours, name))
    for name in ("sigma", "lq_latent", "denoised"):
        close(getattr(theirs, name), getattr(ours, name))
    latents = torch.from_numpy(ours.denoised[0].astype(np.float32))
    close(*(subject.decode(latents).numpy() for subject in subjects))


def close(first, second):
    first, second = (torch.from_numpy(np.array(part)).float() for part in (first, second))
    assert float(second.std()) > 0.05
    torch.testing.assert_close(first, second, rtol=2e-3, atol=5e-3)


# ---- cancel


STAGES = {
    "walking": ("adadiffsr_core.data.dataset", "PairDataset", "__getitem__", 11),
    "measuring": ("adadiffsr_core.training.walks.targets", None, "_measure_walk", 4),
    "learning": ("adadiffsr_core.training.tasks.mmle", "MmleTask", "turns", 4),
    "difficulty": ("adadiffsr_core.training.walks.difficulty", None, "_walk_batch", 2),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_run_goes_on_to_the_same_bits(pack, host, train, places, monkeypatch, stage):
    management, (module, owner, name, when) = host("model_management"), STAGES[stage]
    train(file_name="whole", walks=10)
    owner = getattr(pack(module), owner) if owner else pack(module)
    calls, original = [], getattr(owner, name)

    def press_cancel(*args):
        calls.append(args)
        if len(calls) == when:
            management.interrupt_current_processing()
        return original(*args)

    monkeypatch.setattr(owner, name, press_cancel)
    with pytest.raises(management.InterruptProcessingException):
        train(walks=10)
    assert not management.processing_interrupted()
    assert not places.file.exists()
    assert (places.run / "state.safetensors").exists() == (stage in ("learning", "difficulty"))
    stopped = len(calls)
    train(walks=10)
    # Nothing that was whole is made again; difficulty is taught at a stretch, in three batches of 10 and 2 tiles.
    again = {"walking": 12 - 10 + 12, "measuring": 12 - 4, "learning": 6 - 4, "difficulty": 3}[stage]
    assert len(calls) - stopped == again
    for file in ("state.safetensors", "walks/denoised.npy", "walks/targets/psnr-lq/values.npy"):
        assert same(places.run / file, places.run.with_name("whole") / file), file
    assert same(places.file, places.models / "whole.safetensors")


def same(first, second):
    if first.suffix != ".safetensors":
        return first.read_bytes() == second.read_bytes()
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_widgets_say_what_the_shipped_recipe_says(pack, embedded):
    inputs = pack("nodes.training").TrainMmle.define_schema().inputs
    widgets = {each.id: each.default for each in inputs if each.id in SETTINGS}
    chosen = {**SETTINGS, **{name: value for name, value in widgets.items() if value is not None}}
    settings = pack("nodes.regressor").TrainingSettings(
        **{name: value for name, value in chosen.items() if name not in ("cfg", "denoise")}
    )
    ours = pack("nodes.regressor").build_recipe(make_subject(pack, **embedded), settings, 0.05).to_dict()
    shipped = MmleRecipe.from_dict(read_recipe("mmle", None, {}, {})).to_dict()
    assert ours["loop"] == {**shipped["loop"], "bfloat16": False}
    for name in ("walk", "walks", "held_out", "reference"):
        assert ours[name] == shipped[name], name
    for name in ("fr_metrics", "nr_metrics"):
        assert ours["net"][name] == shipped["net"][name], name
    assert ours["data"] == {**shipped["data"], "size_px": 512}


def test_a_regressor_is_trained_saved_and_described(train, places):
    output = train()
    mmle, path, report, chart = output.args
    assert path == str(places.file)
    checkpoint = load_checkpoint(places.file, "mmle")
    assert {"steps": 6, "walks": 4, "reference": "lq"}.items() <= checkpoint.facts.items()
    assert mmle.module.config.metrics == ("psnr", "piqe")
    assert report.splitlines()[1].startswith("psnr: ")
    assert "piqe: " in report
    assert "class chosen agrees in" in report
    assert "stray where steps are skipped: " in report
    assert "6 steps on 4 walks of" in report
    assert output.ui == {"text": [report]}
    assert (chart.ndim, chart.shape[0], chart.shape[-1], chart.dtype) == (4, 1, 3, torch.float32)
    assert 0 <= float(chart.min()) < 0.5 < float(chart.max()) <= 1
    assert (places.run / "walks" / "denoised.npy").is_file()


def test_the_file_loads_and_drives_the_sampler(pack, train, places, embedded):
    train()
    loaders = pack("nodes.loaders")
    assert pack("nodes.host.folders").list_files() == ["learnt.safetensors"]
    (mmle,) = loaders.LoadMmle.execute("learnt.safetensors").args
    node = pack("nodes.sampling").RegionAwareKSampler
    widgets = {each.id: each.default for each in node.define_schema().inputs if hasattr(each, "default")}
    few = {"steps": 8, "likeness": 20.0}  # all steps are as near for every tile, however hard it is
    options = {**widgets, "sampler_name": "euler", "merge_mode": "final", **few, "tile_size": 2 * SIDE}
    latent, prompts = (
        {"samples": tiny.draw(1, 16, 16, 32)},
        dict.fromkeys(("positive", "negative"), embedded["positive"]),
    )
    with torch.inference_mode():
        output = node.execute(embedded["model"], latent_image=latent, mmle=mmle, **prompts, **options)
    (tiles,) = output.args
    gains = [gain for tile in tiles.report.tiles for step in tile.steps for gain in (step.fr_gain, step.nr_gain)]
    assert max(map(abs, gains)) > 0
    assert len({tile.likeness for tile in tiles.report.tiles}) > 1  # each of a difficulty of its own
    assert bool(tiles.estimates.isfinite().all())


def test_more_steps_go_on_and_a_finished_run_gives_the_same_file(train, places):
    train()
    first = load_file(places.file)
    report = train().args[2]
    again = load_file(places.file)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert "6 steps" in report
    assert "8 steps" in train(steps=8).args[2]
    assert load_state(places.run / "state.safetensors")[1]["step"] == 8
    assert any(not torch.equal(value, first[name]) for name, value in load_file(places.file).items())


def test_progress_reaches_its_end_and_never_turns_back(host, train):
    utils, seen = host("utils"), []
    before = utils.PROGRESS_BAR_HOOK
    utils.set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append((value, total)))
    try:
        train()
        first = len(seen)
        train(steps=8)
    finally:
        utils.set_progress_bar_global_hook(before)
    parts = 3 * (4 + 2)  # walked, measured, and restored for difficulty
    for part, steps in ((seen[:first], 6), (seen[first:], 8)):
        assert part == sorted(part)
        assert part[-1] == (parts + steps, parts + steps)


def test_the_model_is_as_it_was(train, embedded):
    def look():
        return {name: value.clone() for name, value in embedded["model"].model.state_dict().items()}

    before = look()
    train()
    assert all(torch.equal(value, before[name]) for name, value in look().items())
    assert embedded["model"].model_options.get("wrappers", {}) == {}


def build_prompt(**changes):
    """The node with the embedded model, in API form."""
    links = {"model": ["checkpoint", 0], "vae": ["checkpoint", 1], "positive": ["checkpoint", 2]}
    return {
        "checkpoint": {"class_type": "AdaDiffSR_LoadCheckpoint", "inputs": {"checkpoint": "embedded model"}},
        "train": {"class_type": "AdaDiffSR_TrainMMLE", "inputs": {**SETTINGS, **links, **changes}},
        "chart": {"class_type": "PreviewImage", "inputs": {"images": ["train", 3]}},
    }


def test_the_cancel_button_and_run_again(server, client):
    save_photos(server.folder / "input" / "photos")
    prompt = build_prompt(steps=150)
    with client.listen() as recorder:
        prompt_id = client.post(prompt, recorder.client_id)
        recorder.until(lambda message: message["type"] == "progress" and message["data"]["value"] > 30)
        client.interrupt()
        entry = client.wait(prompt_id)
    assert find_messages(entry, "execution_interrupted")
    assert find_messages(entry, "execution_error") == []
    state = server.folder / "user" / "__adadiffsr" / "training" / "learnt" / "state.safetensors"
    assert 10 < load_state(state)[1]["step"] < 150
    entry = client.run(prompt)
    (report,) = entry["outputs"]["train"]["text"]
    assert "150 steps on 4 walks" in report
    assert client.pictures(entry)["chart"][0].shape[-1] == 3
    loader = client.object_info()["AdaDiffSR_LoadMMLE"]["input"]["required"]["file"]
    assert "learnt.safetensors" in str(loader)
    refused = client.run(build_prompt(file_name="none", image_folder="absent"))
    (error,) = find_messages(refused, "execution_error")
    assert "image_folder 'absent' is no folder of photographs" in error["exception_message"]


@contextmanager
def small_disk(folder, size):
    """A disk of its own at a folder, where the system lets us make one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no small disk can be made here: mount needs rights that this user does not have")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount here")
@pytest.mark.parametrize(("size", "walks", "is_filled_later"), [("300k", 4000, False), ("64m", 4, True)])
def test_a_full_disk_is_a_sentence_and_the_next_prompt_runs(server, client, size, walks, is_filled_later):
    save_photos(server.folder / "input" / "photos")
    folder = server.folder / "user" / "__adadiffsr"
    prompt = build_prompt(steps=60, walks=walks, file_name=f"full_{size}")
    with small_disk(folder, size), client.listen() as recorder:
        prompt_id = client.post(prompt, recorder.client_id)
        if is_filled_later:
            recorder.until(lambda message: message["type"] == "progress" and message["data"]["value"] > 20)
            with contextlib.suppress(OSError), (folder / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(2**16))
        (error,) = find_messages(client.wait(prompt_id), "execution_error")
        sentence = error["exception_message"].strip()
        assert "\n" not in sentence
        assert re.search("disk|space|full|room", sentence)
        assert client.run(build_upscale())["outputs"]
        if is_filled_later:
            (folder / "filler").unlink()
            assert "60 steps on 4 walks" in client.run(prompt)["outputs"]["train"]["text"][0]


# ---- any model


def build_vae(host, channels=4):
    """A small VAE of the host's, with latents of 4 or 16 channels."""
    module = host("taesd.taesd").TAESD(latent_channels=channels)
    return host("sd").VAE(sd=tiny.randomise(module).state_dict())


def text_model(host, **options):
    return {"model": tiny.build_model(host, **options), "positive": tiny.text()}


def test_a_model_with_prompts_and_guidance(host, train, places):
    subject = {**text_model(host), "vae": build_vae(host), "denoise": 0.5}
    train(**subject)
    for changes in ({"cfg": 3.0}, {"positive": tiny.text(5)}, {"model": tiny.build_model(host, prediction="v")}):
        with pytest.raises(Exception, match="was made with"):
            train(**{**subject, **changes})
    train(**subject, negative=tiny.text(), seed=0)  # which is what no negative means
    guided = train(**subject | {"cfg": 8.0}, negative=tiny.text(2), file_name="guided")
    assert guided.args[1].endswith("guided.safetensors")
    guided, plain = (np.load(places.run.with_name(name) / "walks" / "denoised.npy") for name in ("guided", "learnt"))
    assert np.abs(guided.astype(np.float32) - plain).max() > 0.1


def test_latents_of_16_channels(host, pack, train, places):
    subject = text_model(host, prediction="flow", in_channels=16, channels=16, latent_format="SD3")
    output = train(**subject, vae=build_vae(host, 16))
    assert output.args[0].module.config.latent_channels == 16


def test_a_conditioning_that_changes_on_the_way_never_straddles(host, pack, places):
    """Walks of one batch are at different levels; alone, each must come out the same."""
    switching = [*tiny.text(3, start_percent=0.0, end_percent=0.4), *tiny.text(4, start_percent=0.4, end_percent=1.0)]
    subject = make_subject(pack, **text_model(host) | {"positive": switching}, vae=build_vae(host))
    photos = places.root / "input" / "photos"
    together = draw_walks(pack, places.root / "together", photos, subject, 2)
    module = pack("adadiffsr_core.training.walks.walks")
    dataset = pack("adadiffsr_core.data.dataset").PairDataset(
        find_images([photos]), pack("adadiffsr_core.data.dataset").PairConfig(size_px=SIDE, min_scale=1.0), 3, 2
    )
    config = module.WalkConfig(visits=8, batch_size=1)
    alone = module.build_walks(places.root / "alone", dataset, subject, config, 3)
    close(together.denoised, alone.denoised)


# ---- what is refused


def test_what_it_refuses_is_said_in_a_sentence(host, train, places, refusal):
    mismatched = {**text_model(host), "vae": build_vae(host, 16)}
    hint = tiny.with_control(tiny.text(), tiny.build_control(host), torch.rand(1, 64, 64, 3))
    save_photos(places.root / "input" / "few", 3)
    (places.root / "input" / "none").mkdir()
    (places.models / "taken.safetensors").write_bytes(b"something else")
    for changes, sentence in (
        ({"image_folder": " "}, "name a folder of photographs in image_folder"),
        ({"image_folder": "absent"}, "image_folder 'absent' is no folder of photographs"),
        ({"image_folder": "none"}, "image_folder 'none' is no folder of photographs"),
        ({"image_folder": "few"}, "3 photographs and at least 4 are needed"),
        ({"file_name": "a/b"}, "plain name"),
        ({"file_name": ".safetensors"}, "plain name"),
        ({"file_name": "taken"}, "taken.safetensors is already in .*; choose another file_name"),
        ({"metrics": "psnr"}, "at least one with a reference, such as psnr, and one without"),
        ({"metrics": "psnr, sharpness"}, "no metric sharpness"),
        ({"tile_size": 72}, "tile_size 72 px is not a multiple of 64; use 64 or 128"),
        ({"metrics": "psnr, niqe", "tile_size": 64}, "niqe"),
        (mismatched, "this VAE makes latents of .* connect the model's own VAE"),
        ({"positive": hint}, "the conditioning holds control"),
        ({"cfg": float("nan")}, "cfg must be"),
        ({"denoise": float("nan")}, "denoise must be"),
    ):
        with pytest.raises(refusal, match=sentence) as caught:
            train(**changes)
        assert "\n" not in str(caught.value)
    assert not places.file.exists()


@pytest.mark.parametrize("name", ["con", "LPT1.x", "a.", "a\u202eb", "a\ud800", "a\0", "a" * 101, "é" * 100])
def test_a_file_name_that_some_system_cannot_keep_is_refused(pack, places, refusal, name):
    weights_file = pack("nodes.host.training").weights_file
    if name == "é" * 100:  # 200 bytes
        assert weights_file(name).name == f"{name}.safetensors"
        return
    with pytest.raises(refusal, match="name"):
        weights_file(name)


def test_only_photographs_that_anyone_may_see_are_read(pack, places, refusal):
    """Of what lies elsewhere nothing is told, not even whether it is there."""
    find = pack("nodes.host.training").find_photographs
    root, inside = places.root, places.root / "input"
    save_photos(root / "secret")
    save_photos(root / "input-of-others")
    save_photos(root / "shared" / "below")
    (inside / "far").symlink_to(root / "secret", target_is_directory=True)
    for number, target in enumerate([root / "secret" / "photo0.png", root / "secret" / "absent.png"]):
        (inside / "photos" / f"link{number}.png").symlink_to(target)
    assert [path.name for path in find("photos")] == [f"photo{number}.png" for number in range(7)]
    assert find(str(inside / "photos")) == find("photos")
    sentences = set()
    for name in (root / "secret", root / "absent", root / "input-of-others", root / "shared", "far", "gone",
                 "../secret", "../absent", "photos/../../secret", "~", "~/absent", "/", "/etc", "."):  # fmt: skip
        if name == ".":
            assert len(find(name)) == 7
            continue
        with pytest.raises(refusal) as caught:
            find(str(name))
        sentences.add(re.sub("'[^']*'", "NAME", str(caught.value), count=1))  # long names are shown cut
    assert len(sentences) == 1


def test_the_owner_lists_folders_that_the_host_then_shows_to_nobody(pack, places, refusal, monkeypatch):
    import folder_paths

    module = pack("nodes.host.folders")
    monkeypatch.setattr(module, "_photo_folders", [])
    save_photos(places.root / "shared" / "below")
    folder_paths.add_model_folder_path("adadiffsr_photos", str(places.root / "shared"))
    module.take_photo_folders()
    assert "adadiffsr_photos" not in folder_paths.folder_names_and_paths
    find = pack("nodes.host.training").find_photographs
    assert find(str(places.root / "shared")) == find(str(places.root / "shared" / "below"))
    with pytest.raises(refusal, match="no folder of photographs"):
        find(str(places.root))


def test_pixels_are_kept_where_the_host_serves_none(pack, places):
    import folder_paths

    folder = pack("nodes.host.training").run_folder(places.file)
    for name in ("input", "output", "temp"):
        assert not Path(folder).resolve().is_relative_to(Path(folder_paths.get_directory_by_type(name)).resolve())
    assert folder.is_relative_to(places.root / "user" / "__adadiffsr")


def test_missing_packages_and_weights_are_named(pack, train, monkeypatch, refusal):
    module = pack("nodes.regressor")
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "cv2" else find(name))
    with pytest.raises(refusal, match=r"run `pip install opencv-python-headless` with ComfyUI's own"):
        train()
    monkeypatch.undo()


def test_damaged_photographs_are_logged_and_left_out(train, places, caplog):
    (places.root / "input" / "photos" / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n{} loop\n")
    report = train().args[2]
    assert report.endswith("1 more files could not be read; the log names them.")
    assert [line for line in caplog.messages if "page.png" in line and line.endswith("it is left out")]


def test_other_photographs_are_noticed(pack, train, places, refusal):
    node = pack("nodes.training").TrainMmle
    before = node.fingerprint_inputs(**{name: SETTINGS[name] for name in ("image_folder", "steps")})
    train()
    (places.root / "input" / "photos" / "photo0.png").unlink()
    assert node.fingerprint_inputs(image_folder="photos") != before
    with pytest.raises(refusal, match=r"made with other photographs; choose another file_name, or remove that folder"):
        train()
    assert (
        train(file_name="other", image_folder=str(places.root / "input" / "photos"))
        .args[1]
        .endswith("other.safetensors")
    )
