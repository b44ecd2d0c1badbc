"""Train MMLE Regressor in the host's process: any model, its walks, its progress, and the file it saves."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from adadiffsr_core.training.walks.walked_model import OwnModel
from tests.host import tiny
from tests.host.training import SETTINGS, SIDE, build_vae, draw_walks, make_subject, text_model
from tests.oracles import randomise

pytestmark = pytest.mark.usefixtures("extras")


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
