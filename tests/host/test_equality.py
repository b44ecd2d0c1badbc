"""On a canvas of one tile, with equal intervals and no early exit, our sampler is the host's."""

from typing import get_args

import pytest
import torch

from tests.host import tiny
from tests.host.nearness import TOLERANCE, close

DETERMINISTIC = ["euler", "ddim", "dpmpp_2m"]
SIDE, STEPS, SEED = 8, 6, 7


def uniform(pack, solver="euler", **fields):
    settings = pack("nodes.settings")
    rule = {"intervals": "1, 1, 1, 1", "gain_threshold": 6e-4, "early_exit": False}
    given = {"tile_size": SIDE * 8, "overlap": 0, "tile_fit": False, **rule, **fields}
    return pack("nodes.host.sampler").RegionSampler(settings.read_settings(sampler_name=solver, **given))


def run_both(host, pack, model, positive, negative=None, *, solver="euler", sigmas=None, images=1, **options):
    """One latent and noise through the host's sampler and ours."""
    channels = model.model.latent_format.latent_channels
    sigmas = tiny.build_sigmas(host, model, STEPS) if sigmas is None else sigmas
    latent, noise = tiny.draw(images, channels, SIDE, SIDE, seed=1), tiny.draw(images, channels, SIDE, SIDE, seed=2)
    given = [host, model, positive, negative or tiny.text(9), latent]
    theirs = tiny.sample_host(*given, host("samplers").sampler_object(solver), sigmas, noise, seed=SEED, **options)
    ours = tiny.sample_host(*given, uniform(pack, solver), sigmas, noise, seed=SEED, **options)
    return ours, theirs


@pytest.mark.parametrize("solver", DETERMINISTIC)
@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
@pytest.mark.parametrize(("scheduler", "denoise"), [("simple", 1.0), ("karras", 0.4), ("sgm_uniform", 0.7)])
def test_every_deterministic_solver(host, pack, solver, prediction, scheduler, denoise):
    model = tiny.build_model(host, prediction)
    sigmas = tiny.build_sigmas(host, model, STEPS, scheduler, denoise)
    close(*run_both(host, pack, model, tiny.text(), solver=solver, sigmas=sigmas))


@pytest.mark.parametrize(("steps", "denoise"), [(20, 0.01), (30, 0.02), (1000, 0.5)])
@pytest.mark.parametrize("scheduler", ["simple", "ddim_uniform", "beta", "karras"])
def test_more_steps_than_the_model_knows_noise_levels(host, pack, scheduler, steps, denoise):
    """The host's schedule then repeats levels, and its sampler steps from one to itself."""
    model = tiny.build_model(host)
    sigmas = tiny.build_sigmas(host, model, steps, scheduler, denoise)[-21:]
    close(*run_both(host, pack, model, tiny.text(), sigmas=sigmas))


def test_repeats_are_dropped_and_nothing_else(host, pack):
    drop = pack("nodes.host.schedule").drop_repeats
    sigmas = tiny.build_sigmas(host, tiny.build_model(host), 20, "simple", 0.01)
    assert drop(sigmas).tolist() == sorted(set(sigmas.tolist()), reverse=True)
    assert len(drop(sigmas)) < len(sigmas)
    for untouched in ([2.0, 1.0, 0.0], [1.0, 2.0, 0.0]):
        assert drop(torch.tensor(untouched)).tolist() == untouched


def test_training_walks_such_a_schedule_too(host, pack):
    settings = pack("adadiffsr_core.settings").SamplingConfig(steps=20)
    prompts = {"positive": tiny.text(), "negative": tiny.text(9)}
    subject = pack("nodes.host.walks").HostModel(model=tiny.build_model(host), vae=None, denoise=0.01, **prompts)
    assert 0 < subject.build_codebook(settings).steps < 20


def test_no_solver_of_ours_is_one_whose_schedule_the_host_changes(host, pack):
    solvers = set(get_args(pack("adadiffsr_core.sampling.codebook").Solver))
    assert solvers <= {*host("samplers").KSampler.SAMPLERS}
    assert not solvers & host("samplers").KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS


@pytest.mark.parametrize("solver", ["euler_ancestral", "ddpm"])
@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_stochastic_solvers_with_one_noise(host, pack, solver, prediction):
    model = tiny.build_model(host, prediction)
    sigmas = tiny.build_sigmas(host, model, STEPS)
    step_noise = pack("adadiffsr_core.sampling.noise").StepNoise(
        SEED, pack("adadiffsr_core.sampling.tiles").build_grid(8, 8, 8, 0), 4
    )
    arriving = {float(sigma): step_noise([0], torch.tensor([index])) for index, sigma in enumerate(sigmas)}
    kept = {"noise_sampler": lambda sigma, sigma_next: arriving[float(sigma_next)]}
    theirs = host("samplers").KSAMPLER(getattr(host("k_diffusion.sampling"), f"sample_{solver}"), kept)
    latent, noise = tiny.draw(1, 4, SIDE, SIDE, seed=1), tiny.draw(1, 4, SIDE, SIDE, seed=2)
    given = [host, model, tiny.text(), tiny.text(9), latent]
    expected = tiny.sample_host(*given, theirs, sigmas, noise, seed=SEED)
    close(tiny.sample_host(*given, uniform(pack, solver), sigmas, noise, seed=SEED), expected)


def areas():
    half, rest = {"area": (8, 5, 0, 0), "strength": 0.8}, {"area": (5, 8, 3, 0)}
    return tiny.text(0, **half) + tiny.text(1, **rest) + tiny.text(2)


def masks():
    left = torch.zeros(1, 64, 64)
    left[:, :, :40] = 1
    bounded = {"mask": 1 - left, "mask_strength": 1.0, "set_area_to_bounds": True}
    return tiny.text(0, mask=left, mask_strength=0.7) + tiny.text(1, **bounded) + tiny.text(2)


def timed():
    return tiny.text(0, start_percent=0.0, end_percent=0.4) + tiny.text(1, start_percent=0.4, end_percent=1.0)


def percentages():
    return tiny.text(0, area=("percentage", 0.6, 0.5, 0.4, 0.5)) + tiny.text(1)


@pytest.mark.parametrize("prompts", [tiny.text, areas, masks, timed, percentages], ids=lambda prompts: prompts.__name__)
def test_prompts_by_area_mask_and_time(host, pack, prompts):
    close(*run_both(host, pack, tiny.build_model(host), prompts()))


@pytest.mark.parametrize(
    ("strength", "start", "end", "hint"),
    [(1.0, 0.0, 1.0, (1, 3, 64, 64)), (0.6, 0.2, 0.7, (1, 3, 64, 64)), (1.0, 0.0, 1.0, (1, 3, 50, 90))],
)
def test_controlnet(host, pack, strength, start, end, hint):
    control = tiny.build_control(host)
    positive = tiny.with_control(tiny.text(), control, tiny.draw(*hint, seed=3).sigmoid(), strength, start, end)
    ours, theirs = run_both(host, pack, tiny.build_model(host), positive)
    close(ours, theirs)
    without, _ = run_both(host, pack, tiny.build_model(host), tiny.text())
    assert (ours - without).abs().max() > 100 * TOLERANCE


def test_chained_controlnets_under_area_prompts(host, pack):
    hint = tiny.draw(1, 3, 64, 64, seed=3).sigmoid()
    positive = tiny.with_control(areas(), tiny.build_control(host, 5), hint, 0.8, 0.0, 0.6)
    positive = tiny.with_control(positive, tiny.build_control(host, 6), 1 - hint, 0.5, 0.3, 1.0)
    close(*run_both(host, pack, tiny.build_model(host), positive))


def test_lora(host, pack):
    model = tiny.build_model(host).clone()
    plain, _ = run_both(host, pack, model, tiny.text())
    names = [key for key in model.model_state_dict() if key.endswith("attn2.to_v.weight")]
    weights = {key: ("diff", (tiny.draw(*model.model_state_dict()[key].shape, seed=8) * 10,)) for key in names}
    assert len(model.add_patches(weights, 0.7)) == len(names)
    ours, theirs = run_both(host, pack, model, tiny.text())
    close(ours, theirs)
    assert (ours - plain).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("differential", [False, True])
def test_inpainting(host, pack, differential):
    model = tiny.build_model(host).clone()
    if differential:
        import importlib

        node = importlib.import_module("comfy_extras.nodes_differential_diffusion").DifferentialDiffusion
        model = getattr(node, "execute", None)(model)[0]
    mask = torch.linspace(0, 1, 64).expand(1, 64, 64)
    close(*run_both(host, pack, model, tiny.text(), mask=mask))


def test_a_batch_of_images_with_prompts_of_their_own(host, pack):
    prompt = [[torch.cat([tiny.draw(1, 7, tiny.CONTEXT, seed=seed) for seed in (0, 1, 2)]), {}]]
    ours, theirs = run_both(host, pack, tiny.build_model(host), prompt, images=3)
    close(ours, theirs)
    assert (theirs[0] - theirs[1]).abs().max() > 100 * TOLERANCE


def test_an_inpainting_model_gets_its_concatenated_latent(host, pack):
    model = tiny.build_model(host, in_channels=9)
    model.model.set_inpaint()
    given = {"concat_latent_image": tiny.draw(1, 4, SIDE, SIDE, seed=4), "concat_mask": torch.ones(1, 1, 64, 64)}
    given["concat_mask"][..., :30] = 0
    close(*run_both(host, pack, model, tiny.text(0, **given), tiny.text(9, **given)))


def test_sdxl_by_shape(host, pack):
    model = tiny.build_model(host, adm=1536 + 24, latent_format="SDXL", base="SDXL")
    close(*run_both(host, pack, model, tiny.text(0), tiny.text(9)))


def test_a_flow_model_with_sixteen_channels(host, pack):
    model = tiny.build_model(host, "flow", in_channels=16, channels=16, latent_format="SD3")
    close(*run_both(host, pack, model, tiny.text()))


def test_any_guider(host, pack):
    import importlib

    extras = importlib.import_module("comfy_extras.nodes_custom_sampler")
    model = tiny.build_model(host)
    sigmas = tiny.build_sigmas(host, model, STEPS)
    latent, noise = tiny.draw(1, 4, SIDE, SIDE, seed=1), tiny.draw(1, 4, SIDE, SIDE, seed=2)

    def sample(sampler):
        guider = extras.Guider_DualCFG(model)
        guider.set_conds(tiny.text(0), tiny.text(1), tiny.text(9))
        guider.set_cfg(3.0, 2.0)
        return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=SEED)

    close(sample(uniform(pack)), sample(host("samplers").sampler_object("euler")))
