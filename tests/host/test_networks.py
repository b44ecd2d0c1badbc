"""Our network, schedule and solvers against ComfyUI's own: one state dict, one noise, one result."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.pfj import Pfj, PfjConfig, encoder_slots
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.solver import Before, Jump, take_jump
from adadiffsr_core.sampling.tiles import build_grid
from tests.oracles import TINY_UNET, randomise

PREFIX = "model.diffusion_model."
PREDICTIONS = {"eps": "EPS", "v": "V_PREDICTION", "flow": "FLOW"}
DISCRETE = ["eps", "v"]
SIDE, STEPS = 8, 24


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prefixed(unet):
    return {PREFIX + key: value for key, value in unet.state_dict().items()}


def build_host_model(host, unet, prediction):
    """The host's model for our weights, of the shape that it finds in them itself."""
    found = host("model_detection").detect_unet_config(prefixed(unet), PREFIX)
    base = host("model_base")
    model = base.BaseModel(host("supported_models_base").BASE(found), base.ModelType[PREDICTIONS[prediction]])
    model.diffusion_model.load_state_dict(unet.state_dict())
    return model


# As the next embedded model's, smaller.
SEEING = {
    "channels": {"in_channels": 12, "out_channels": 6, "model_channels": 32, "channel_mult": (1, 2, 4),
                 "num_res_blocks": 2, "attention_levels": (2,), "num_head_channels": 32},
    "heads": {"in_channels": 12, "out_channels": 6, "model_channels": 32, "channel_mult": (1, 2, 2),
              "num_res_blocks": 2, "attention_levels": (1, 2), "num_heads": 4, "use_linear_in_transformer": True},
}  # fmt: skip


def build_seeing(host, pack, config):
    """The host's UNet for our weights, by the shape that we tell it."""
    unet = pack("nodes.host.unet")
    theirs = unet.RestorationUNet(**unet.unet_shape(config), operations=host("ops").disable_weight_init).eval()
    assert type(theirs).__mro__[1] is host("ldm.modules.diffusionmodules.openaimodel").UNetModel
    return theirs.requires_grad_(False)


@pytest.mark.parametrize("config", SEEING.values(), ids=SEEING)
def test_self_attention_is_the_hosts(host, pack, config):
    config = UNetConfig(**config)
    ours, theirs = randomise(UNet(config)), build_seeing(host, pack, config)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    x, timesteps = draw(3, 12, 16, 24), torch.tensor([0.0, 437.5, 999.0])
    close(ours(x, timesteps), theirs(x, timesteps), 1e-5)
    # Whatever text the user connects is not read.
    close(ours(x, timesteps), theirs(x, timesteps, context=draw(3, 77, 768)), 1e-5)
    pfj = randomise(Pfj(PfjConfig(latent_channels=6, channels=config.widths, width=8)))
    residuals = pfj(draw(3, 6, 16, 24, seed=2), torch.tensor([[0.0, 0.0], [1e-3, -2e-3], [5e-3, 4e-3]]))
    control = {"input": list_control(residuals, config.num_res_blocks)}
    injected = ours(x, timesteps, residuals)
    assert (injected - ours(x, timesteps)).abs().max() > 0.1
    close(injected, theirs(x, timesteps, control=control), 1e-5)


@pytest.mark.parametrize("config", SEEING.values(), ids=SEEING)
def test_self_attention_takes_part(host, pack, config):
    theirs = build_seeing(host, pack, UNetConfig(**config))
    theirs.load_state_dict(randomise(UNet(UNetConfig(**config))).state_dict())
    x, timesteps = draw(1, 12, 16, 24), torch.tensor([437.5])
    before = theirs(x, timesteps)
    theirs.middle_block[1].transformer_blocks[0].attn1.to_out[0].weight.zero_()
    assert (theirs(x, timesteps) - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(num_res_blocks=1),
        UNetConfig(num_res_blocks=2),
        UNetConfig(in_channels=4, context_dim=24, attention_levels=(1, 2), num_heads=4),
        UNetConfig(context_dim=24, attention_levels=(2,), num_head_channels=32, use_linear_in_transformer=True),
    ],
)
def test_the_shape_is_the_one_that_the_host_finds(host, pack, config):
    weights = prefixed(UNet(config))
    found = host("model_detection").detect_unet_config(weights, PREFIX)
    shape = pack("nodes.host.unet").unet_shape(config)
    heads = [shape.pop(name) for name in ("num_heads", "num_head_channels")]
    assert shape == found
    if config.attention_levels:
        assert heads == [config.num_heads or -1, config.num_head_channels or -1]


def build_both(host, config, prediction, images=1, side=SIDE):
    """Our denoiser and the host's model of the same random weights, and the latent that conditions both."""
    unet = randomise(UNet(config))
    lq_latent = draw(images, 4, side, side, seed=1)
    ours = UNetDenoiser(unet, Schedule(prediction), lq_latent, build_grid(side, side, side, 0))
    return ours, build_host_model(host, unet, prediction), lq_latent


def close(ours, theirs, tolerance):
    """Within `tolerance` of the largest value, or of 1."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, float(theirs.detach().abs().max())))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_host_finds_our_shape(host, blocks):
    config = UNetConfig(num_res_blocks=blocks)
    weights = prefixed(UNet(config))
    detection = host("model_detection")
    found = detection.detect_unet_config(weights, detection.unet_prefix_from_state_dict(weights))
    assert (found["in_channels"], found["out_channels"], found["model_channels"]) == (8, 4, 64)
    assert tuple(found["channel_mult"]) == (1, 2, 3)
    assert found["num_res_blocks"] == [blocks] * 3
    assert found["transformer_depth"] == [0] * 3 * blocks
    assert found["transformer_depth_output"] == [0] * 3 * (blocks + 1)
    assert found["transformer_depth_middle"] == -1  # one residual block
    assert found["context_dim"] is None
    assert found["adm_in_channels"] is None


@pytest.mark.parametrize("blocks", [1, 2])
def test_one_state_dict_gives_one_output(host, blocks):
    unet = randomise(UNet(UNetConfig(num_res_blocks=blocks)))
    x, timesteps = draw(3, 8, 12, 20), torch.tensor([0.0, 437.5, 999.0])
    ours = unet(x, timesteps)
    assert ours.std() > 0.1
    theirs = build_host_model(host, unet, "v").diffusion_model(x, timesteps)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def list_control(residuals, blocks):
    """The host's `control["input"]`, which it empties from the end: an entry per input block, the last one first."""
    slots = encoder_slots(len(residuals), blocks)
    by_block = dict(zip(slots, residuals, strict=True))
    return [by_block.get(block) for block in reversed(range(slots[-1] + 1))]


@pytest.mark.parametrize(("blocks", "channel_mult"), [(1, (1, 2, 3)), (2, (1, 2, 4, 4))])
def test_residuals_are_the_hosts_control(host, blocks, channel_mult):
    config = UNetConfig(model_channels=32, channel_mult=channel_mult, num_res_blocks=blocks)
    unet, pfj = randomise(UNet(config)), randomise(Pfj(PfjConfig(channels=config.widths, width=8)))
    theirs = build_host_model(host, unet, "v").diffusion_model
    x, timesteps = draw(3, 8, 16, 24), torch.tensor([0.0, 437.5, 999.0])
    unet.requires_grad_(False), pfj.requires_grad_(False)
    residuals = pfj(draw(3, 4, 16, 24, seed=2), torch.tensor([[0.0, 0.0], [1e-3, -2e-3], [5e-3, 4e-3]]))
    control = list_control(residuals, blocks)
    assert len(control) == len(theirs.input_blocks)
    ours = unet(x, timesteps, residuals)
    assert (ours - unet(x, timesteps)).abs().max() > 0.1
    close(ours, theirs(x, timesteps, control={"input": control}), 1e-5)


def test_levels_of_odd_sides_have_the_hosts_sizes(host):
    config = UNetConfig(model_channels=32, channel_mult=(1, 2, 2), num_res_blocks=1)
    theirs = build_host_model(host, randomise(UNet(config)), "v").diffusion_model
    pfj = randomise(Pfj(PfjConfig(channels=config.widths, width=8)))
    x, timesteps = draw(1, 8, 13, 7), torch.tensor([437.5])
    residuals = pfj(draw(1, 4, 13, 7, seed=2), torch.zeros(1, 2))
    with_residuals = theirs(x, timesteps, control={"input": list_control(residuals, 1)})
    # Had a residual not fitted, the host would have left it out with no more than a line in its log.
    for level in range(3):
        fewer = [part if place != level else None for place, part in enumerate(residuals)]
        assert (theirs(x, timesteps, control={"input": list_control(fewer, 1)}) - with_residuals).abs().max() > 1e-3


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_denoised_is_the_hosts_for_a_mixed_batch(host, prediction, blocks):
    ours, theirs, lq_latent = build_both(host, UNetConfig(num_res_blocks=blocks), prediction, images=3)
    sigma = Schedule(prediction).timestep_to_sigma(torch.tensor([5.0, 437.0, 999.0]))
    x = draw(3, 4, SIDE, SIDE) * (1 + sigma[:, None, None, None])
    close(ours(x, sigma, [0, 1, 2], None), theirs.apply_model(x, sigma, c_concat=lq_latent), 1e-5)


def build_sampling(host, prediction):
    base = host("model_base")
    return base.model_sampling(None, base.ModelType[PREDICTIONS[prediction]])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_levels_are_the_hosts(host, prediction):
    schedule, sampling = Schedule(prediction), build_sampling(host, prediction)
    torch.testing.assert_close(schedule.timestep_to_sigma(torch.arange(1000)), sampling.sigmas, rtol=1e-5, atol=0)
    assert schedule.sigma_max == pytest.approx(float(sampling.sigma_max), rel=1e-6)
    shown = torch.lerp(sampling.sigmas[:-1], sampling.sigmas[1:], 0.3)
    torch.testing.assert_close(schedule.sigma_to_timestep(shown), sampling.timestep(shown).float(), rtol=0, atol=0)


@pytest.mark.parametrize("prediction", DISCRETE)
def test_fractional_timesteps_are_the_hosts(host, prediction):
    timesteps = torch.linspace(0, 999, 3001)
    theirs = build_sampling(host, prediction).sigma(timesteps)
    torch.testing.assert_close(Schedule(prediction).timestep_to_sigma(timesteps), theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("spacing", "scheduler"), [("uniform", "simple"), ("karras", "karras")])
@pytest.mark.parametrize(("steps", "denoise"), [(7, 1.0), (30, 1.0), (200, 1.0), (20, 0.35)])
def test_base_steps_are_the_hosts(host, prediction, spacing, scheduler, steps, denoise):
    ours = Schedule(prediction).build_sigmas(steps, spacing, denoise)
    model = SimpleNamespace(get_model_object=lambda name: build_sampling(host, prediction))
    theirs = host("samplers").KSampler(model, steps, torch.device("cpu"), "euler", scheduler, denoise).sigmas
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_inputs_and_outputs_mean_what_the_host_means(host, prediction):
    schedule, sampling = Schedule(prediction), build_sampling(host, prediction)
    sigma = schedule.timestep_to_sigma(torch.tensor([0.0, 20.0, 500.0, 999.0]))
    x, output = draw(2, 4, 4, SIDE, SIDE)
    close(schedule.scale_input(x, sigma), sampling.calculate_input(sigma, x), 1e-6)
    close(schedule.output_to_denoised(output, x, sigma), sampling.calculate_denoised(sigma, output, x), 1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("timestep", [300.0, 999.0])
def test_the_start_is_the_hosts(host, prediction, timestep):
    schedule, sampling = Schedule(prediction), build_sampling(host, prediction)
    sigma = schedule.timestep_to_sigma(torch.tensor([timestep]))
    latent, noise = draw(2, 1, 4, SIDE, SIDE)
    theirs = sampling.noise_scaling(sigma, noise.clone(), latent, max_denoise=timestep == 999.0)
    close(schedule.start(latent, noise, float(sigma)), theirs, 1e-6)


class Guider:
    """What the host's samplers call, with the one way in to its model that they use."""

    def __init__(self, model, lq_latent):
        self.model, self.lq_latent = model, lq_latent
        patcher = SimpleNamespace(get_model_object=lambda name: getattr(model, name))
        self.inner_model = SimpleNamespace(inner_model=model, model_patcher=patcher)

    def __call__(self, x, sigma):
        return self.model.apply_model(x, sigma, c_concat=self.lq_latent)


def walk(book, denoiser, x, stops, noise):
    """One tile along base indices, by our codebook and solver."""
    before = Before(x, torch.tensor([-1]))
    for start, target in pairwise(stops):
        here, there = torch.tensor([start]), torch.tensor([target])
        denoised = denoiser(x, book.sigmas[here], [0], None)
        x = take_jump(book, x, denoised, Jump(here, there), noise[there], before)
        before = Before(denoised, here)
    return x


@pytest.mark.parametrize(
    ("solver", "prediction"),
    [(solver, p) for solver in ("euler", "euler_ancestral", "ddpm", "dpmpp_2m") for p in DISCRETE]
    + [("euler", "flow"), ("euler_ancestral", "flow"), ("dpmpp_2m", "flow")],
)
@pytest.mark.parametrize("interval", [1, 3])
def test_equal_intervals_are_the_hosts_sampler(host, solver, prediction, interval):
    denoiser, model, lq_latent = build_both(host, TINY_UNET, prediction)
    schedule = Schedule(prediction)
    book = build_codebook(schedule.build_sigmas(STEPS), solver, schedule=schedule)
    stops = list(range(0, STEPS + 1, interval))
    x, *_ = noise = draw(STEPS + 1, 4, SIDE, SIDE)
    x = schedule.start(lq_latent, x[None], float(book.sigmas[0]))
    arriving = {float(sigma): noise[index : index + 1] for index, sigma in enumerate(book.sigmas)}
    extra = {"noise_sampler": lambda sigma, sigma_next: arriving[float(sigma_next)]} if book.is_stochastic else {}
    sample = getattr(host("k_diffusion.sampling"), f"sample_{solver}")
    theirs = sample(Guider(model, lq_latent), x, book.sigmas[stops], disable=True, **extra)
    assert theirs.std() > 0.1
    close(walk(book, denoiser, x, stops, noise), theirs, 1e-4)


@pytest.mark.parametrize("seed", [0, 123456789, 2**64 - 1])
def test_initial_noise_is_the_hosts(host, seed):
    shape = (2, 4, 9, 13)
    with torch.random.fork_rng(devices=[]):
        theirs = host("sample").prepare_noise(torch.zeros(shape), seed)
    assert torch.equal(field_noise(shape, seed), theirs)
