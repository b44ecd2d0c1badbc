"""Pictures of models that were made for video, whose latents have a frame: as any other's, tile by tile."""

import pytest
import torch

from tests.host import tiny
from tests.host.nearness import close
from tests.host.test_cropping import settings_of
from tests.host.test_equality import SEED, uniform

CHANNELS, SIDE, STEPS, TILE = 16, 24, 5, 16


@pytest.fixture(scope="module")
def model(host):
    return tiny.build_framed_model(host)


def draw(side, seed, images=1):
    return tiny.draw(images, CHANNELS, 1, side, side, seed=seed)


def sample(host, model, sampler, latent, noise, positive=None, **options):
    prompts = positive or tiny.text(0), tiny.text(9)
    sigmas = tiny.build_sigmas(host, model, STEPS)
    return tiny.sample_host(host, model, *prompts, latent, sampler, sigmas, noise, seed=SEED, **options)


def half(side):
    mask = torch.zeros(1, side, side)
    mask[:, :, : side // 2] = 1
    return mask


PROMPTS = {
    "plain": lambda side: tiny.text(0),
    "two frames of text": lambda side: tiny.text(0, start_percent=0.0, end_percent=0.4) + tiny.text(1),
    "mask": lambda side: tiny.text(0, mask=half(side)) + tiny.text(1, mask=1 - half(side)),
    "area": lambda side: tiny.text(0, area=(side, side // 2, 0, 0)) + tiny.text(1),
    "reference": lambda side: tiny.text(0, reference_latents=[draw(side, 5)]),
}


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_one_tile_is_the_hosts_own_run(host, pack, model, solver, prompt):
    given = [draw(8, 1), draw(8, 2), PROMPTS[prompt](8)]
    theirs = sample(host, model, host("samplers").sampler_object(solver), *given)
    ours = sample(host, model, uniform(pack, solver), *given)
    assert ours.shape == theirs.shape == (1, CHANNELS, 1, 8, 8)
    close(ours, theirs)


def test_inpainting(host, pack, model):
    given, mask = [draw(8, 1), draw(8, 2)], half(8)
    theirs = sample(host, model, host("samplers").sampler_object("euler"), *given, mask=mask)
    close(sample(host, model, uniform(pack), *given, mask=mask), theirs)


@pytest.mark.parametrize("images", [1, 2])
def test_each_tile_is_a_run_of_its_own(host, pack, model, images):
    kept = []
    sampler = pack("nodes.host.sampler").RegionSampler(settings_of(pack, tile_size=TILE * 8), kept.append)
    latent, noise = draw(SIDE, 1, images), draw(SIDE, 2, images)
    reference = draw(SIDE, 5)
    merged = sample(host, model, sampler, latent, noise, tiny.text(0, reference_latents=[reference]))
    (tiles,) = kept
    assert merged.shape == latent.shape
    assert tiles.grid.count > 1
    for tile_id in range(images * tiles.grid.count):
        image, top, left = tiles.grid.locate(tile_id)
        place = (..., slice(top, top + TILE), slice(left, left + TILE))
        alone = [canvas[image][None][place] for canvas in (latent, noise)]
        prompt = tiny.text(0, reference_latents=[reference[place]])
        theirs = sample(host, model, host("samplers").sampler_object("euler"), *alone, prompt)
        ours = tiles.estimates[tile_id][None, :, None]
        close(model.model.process_latent_out(ours), theirs)


def test_the_nodes_give_a_latent_that_the_models_vae_decodes(host, pack, model):
    run, settings = pack("nodes.host.run"), pack("nodes.settings")
    rule = {"intervals": "1, 1, 1, 1", "gain_threshold": 6e-4, "early_exit": False, "tile_size": TILE * 8}
    latent = {"samples": draw(SIDE, 1)}
    base = run.KSamplerSettings(seed=SEED, steps=STEPS, cfg=3.0)
    mask = torch.ones(1, SIDE, SIDE)
    mask[:, :, : SIDE // 2] = 0
    chosen = settings.read_settings(**rule, sampler_name="euler", overlap=32, compute_mask=mask)
    tiles = run.sample_regions(model, tiny.text(0), tiny.text(9), latent, chosen, base)
    merged = pack("nodes.merge").GaussianLatentMerge.execute(tiles, 0.1)[0]["samples"]
    assert merged.shape == latent["samples"].shape
    assert torch.equal(merged[..., :4], latent["samples"][..., :4])
    assert not torch.equal(merged[..., -4:], latent["samples"][..., -4:])


def test_the_denoised_output_has_a_frame_too(host, pack, model):
    shown = []
    sigmas, cpu = tiny.build_sigmas(host, model, STEPS), torch.device("cpu")
    guider = host("samplers").CFGGuider(model)
    guider.set_conds(tiny.text(0), tiny.text(9))
    guider.set_cfg(1.0)
    with torch.inference_mode():
        out = guider.sample(
            draw(8, 2).to(cpu), draw(8, 1), uniform(pack), sigmas, disable_pbar=True, seed=SEED,
            callback=lambda step, x0, x, total: shown.append(x0),
        )  # fmt: skip
        close(model.model.process_latent_out(shown[-1]), out)


def test_several_frames_are_refused(host, pack, model):
    with pytest.raises(ValueError, match=r"or of one frame, \[N,C,1,H,W\]; this one is \[1, 16, 3, 8, 8\]"):
        sample(host, model, uniform(pack), *(tiny.draw(1, CHANNELS, 3, 8, 8, seed=seed) for seed in (1, 2)))
