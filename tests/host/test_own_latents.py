"""A model in a latent space of its own, in the host: all that the embedded model can, with 16 channels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adadiffsr_core.models.latent_colours import plain_colours
from tests.host import own, tiny
from tests.host.graphs import SCALE, SIDE, build_upscale
from tests.host.test_embedded import close

HEIGHT, WIDTH = 120, 160
# The everyday preset's, with tiles of 8 latent px that overlap by 2.
REGIONS = {
    "sampler_name": "euler", "intervals": "1, 2, 3, 4", "gain_threshold": 2e-3, "early_exit": False,
    "first_jump": 0.25, "likeness": 40.0, "budget": 0.0, "visit_last": True, "tile_size": 64, "overlap": 16,
    "tile_fit": True, "tile_batch": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return own.write_bundle(tmp_path_factory.mktemp("own") / "own.safetensors", preview=own.preview())


@pytest.fixture(scope="module")
def loaded(pack, path):
    return pack("nodes.host.checkpoints").open_checkpoint(path)


@pytest.fixture(scope="module")
def model(pack, path):
    return pack("adadiffsr_core.models.model").load_model(path)


@pytest.fixture(scope="module")
def photo():
    return torch.rand(1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_the_vae_is_ours_as_it_is(loaded, model, photo):
    latent = loaded.vae.encode(photo)
    assert latent.shape == (1, own.CHANNELS, HEIGHT // 8, WIDTH // 8)
    close(latent, model.encode(photo.movedim(-1, 1)))
    close(loaded.vae.decode(latent).movedim(-1, 1), model.decode(latent))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_who_takes_a_vae_apart_is_told_what_to_use(loaded, part):
    assert not hasattr(loaded.vae.first_stage_model, part)
    with pytest.raises(AttributeError, match="use ComfyUI's own VAE Encode and VAE Decode"):
        getattr(loaded.vae.first_stage_model, part)


@torch.inference_mode()
def test_the_tiled_vae_nodes_work(loaded, photo):
    large = photo.repeat(1, 5, 4, 1)
    whole = loaded.vae.encode(large)
    tiled = loaded.vae.encode_tiled(large, tile_x=512, tile_y=512, overlap=64)
    assert tiled.shape == whole.shape == (1, own.CHANNELS, 75, 80)
    assert (whole - tiled).abs().mean() < 2e-2 * whole.std()  # of random weights, which blend less well at seams
    decoded, decoded_tiled = loaded.vae.decode(whole), loaded.vae.decode_tiled(whole, tile_x=32, tile_y=32, overlap=8)
    assert decoded_tiled.shape == large.shape
    assert (decoded - decoded_tiled).abs().mean() < 2e-2


def test_memory_is_that_of_the_pictures(loaded):
    vae = loaded.vae
    image, latent = (1, 3, 2048, 1024), (1, own.CHANNELS, 256, 128)
    assert vae.memory_used_encode(image, torch.float32) == vae.memory_used_decode(latent, torch.float32)
    assert vae.memory_used_encode((1, 3, 4096, 1024), torch.float32) > vae.memory_used_encode(image, torch.float32)


def test_the_host_is_told_of_the_latents(host, pack, loaded):
    format_, model = loaded.model.model.latent_format, loaded.model.model
    assert (format_.latent_channels, format_.scale_factor, loaded.vae.latent_channels) == (16, 1, 16)
    latent = tiny.draw(1, 16, 4, 4)
    assert torch.equal(model.process_latent_out(model.process_latent_in(latent)), latent)
    geometry = pack("nodes.host.geometry")
    assert (geometry.latent_sizes(model).trained, geometry.latent_sizes(model).factor) == (64, 8)
    # An empty latent, of 4 channels as the host's node makes it, becomes one of the model's.
    empty = host("sample").fix_empty_latent_channels(loaded.model, torch.zeros(1, 4, 8, 8))
    assert empty.shape == (1, 16, 8, 8)


def preview_of(format_, latent):
    import latent_preview

    latent2rgb = latent_preview.Latent2RGBPreviewer(format_.latent_rgb_factors, format_.latent_rgb_factors_bias)
    return latent2rgb.decode_latent_to_preview(latent)


def test_previews_have_the_files_colours(loaded, pack, tmp_path):
    latent = tiny.draw(1, 16, 6, 9) * 0.5
    rows, bias = (torch.tensor(own.preview()[name]) for name in ("factors", "bias"))
    wanted = ((torch.einsum("chw,ck->hwk", latent[0], rows) + bias + 1) / 2).clamp(0, 1)
    shown = torch.from_numpy(np.array(preview_of(loaded.model.model.latent_format, latent))) / 255
    assert (shown - wanted).abs().max() < 0.01
    plain = pack("nodes.host.checkpoints").open_checkpoint(own.write_bundle(tmp_path / "plain.safetensors"))
    found = plain.model.model.latent_format.latent_rgb_factors
    assert found == [list(row) for row in plain_colours(16).factors]


@pytest.mark.parametrize(
    ("preview", "sentence"),
    [({"factors": [[1, 2, 3]] * 4}, "colours of 4 channels for 16"), ({"factors": [[1, 2]]}, "red, green and blue")],
)
def test_colours_of_other_latents_are_refused(pack, tmp_path, preview, sentence):
    errors = pack("adadiffsr_core.errors")
    broken = own.write_bundle(tmp_path / "broken.safetensors", preview=preview)
    with pytest.raises(errors.CheckpointError, match=sentence):
        pack("nodes.host.checkpoints").open_checkpoint(broken)


@pytest.fixture(scope="module", params=["v picture", "v residual", "flow residual"])
def either_path(request, tmp_path_factory, path):
    """The same weights, as what denoises the picture or what it has more than the low-quality one."""
    prediction, target = request.param.split()
    if target == "picture":
        return path
    schedule = {"prediction": prediction, "target": target}
    return own.write_bundle(tmp_path_factory.mktemp("own") / "residual.safetensors", schedule=schedule)


@pytest.mark.parametrize("with_networks", [False, True])
@pytest.mark.parametrize("merge", ["final", "every_step"])
@pytest.mark.parametrize("rule", ["bounded", "paper"])
@torch.inference_mode()
def test_the_nodes_do_what_the_command_line_does(host, pack, either_path, photo, with_networks, merge, rule):
    """Load Checkpoint, VAE Encode, Region-Aware KSampler, merge, VAE Decode, Colour Match, Region Map."""
    path = either_path
    model = pack("adadiffsr_core.models.model").load_model(path)
    pipeline, loaders, sampling = pack("adadiffsr_core.pipeline"), pack("nodes.loaders"), pack("nodes.sampling")
    small = photo[:, ::4, ::4]
    everyday = pack("adadiffsr_core.settings").PRESETS["everyday"]
    config = replace(
        everyday,
        dtss=replace(everyday.dtss, rule=rule),
        tile_size=64,
        overlap=16,
        steps=10,
        seed=5,
        merge=merge,
        pfj_strength=0.3,
    )
    chosen = model if with_networks else replace(model, mmle=None, pfj=None)
    ours = pipeline.upscale(chosen, small.movedim(-1, 1), (HEIGHT, WIDTH), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaders, "find_checkpoint", lambda name: path)
        opened, vae, null, clip, mmle, pfj = loaders.LoadCheckpoint.execute("own.safetensors").args
    assert clip is None
    latent = vae.encode(
        pack("adadiffsr_core.photo.enlarging").enlarge(small.movedim(-1, 1), (HEIGHT, WIDTH)).movedim(1, -1)
    )
    (tiles,) = sampling.RegionAwareKSampler.execute(
        opened, null, null, {"samples": latent}, config.seed, config.steps, 1.0, "simple", config.denoise,
        **REGIONS, rule=rule, merge_mode=merge, pfj_strength=config.pfj_strength,
        mmle=mmle if with_networks else None, pfj=pfj if with_networks else None,
    ).args  # fmt: skip
    assert tiles.grid == ours.grid
    assert [tile.nfe for tile in tiles.report.tiles] == [tile.nfe for tile in ours.report.tiles]
    merged = pack("nodes.merge").GaussianLatentMerge.execute(tiles, 0.1).args[0]["samples"]
    matched = pack("nodes.colour").ColourMatch.execute(vae.decode(merged), small, "wavelet").args[0]
    close(matched.movedim(-1, 1), ours.image, 1e-3)
    (drawn,) = pack("nodes.pictures").RegionMap.execute(tiles, matched).args[:1]
    assert drawn.shape[-1] == 3


def test_small_networks_of_other_latents_are_refused(host, pack, loaded):
    entrust = pack("nodes.host.networks").entrust
    nets, errors = pack("adadiffsr_core.nets.pfj"), pack("adadiffsr_core.errors")
    regressors, runs = pack("adadiffsr_core.nets.mmle"), pack("nodes.host.run")
    base = runs.KSamplerSettings(seed=5, steps=2, cfg=1.0, scheduler="simple", denoise=1.0)
    null = loaded.null_prompt
    mmle = regressors.Mmle(regressors.MmleConfig())
    pfj = nets.Pfj(nets.PfjConfig(channels=own.UNET.widths))
    for given, sentence in (
        ({"mmle": entrust(mmle)}, "MMLE regressor is for latents of 4 channels; the model's have 16"),
        ({"pfj": entrust(pfj)}, "PFJ is for latents of 4 channels; the model's have 16"),
    ):
        chosen = pack("nodes.settings").read_settings(intervals="1, 2, 3, 4", tile_size=64, overlap=16, **given)
        with pytest.raises(errors.ConfigError, match=sentence) as refused:
            runs.sample_regions(loaded.model, null, null, {"samples": tiny.draw(1, 16, 15, 20)}, chosen, base)
        assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("clean_log")
def test_the_server_runs_it(client, server, path):
    folder = server.folder / "models" / "adadiffsr"
    folder.mkdir(exist_ok=True)
    (folder / "own.safetensors").write_bytes(path.read_bytes())
    prompt = build_upscale()
    prompt["model"]["inputs"]["checkpoint"] = "own.safetensors"
    prompt["tiles"]["inputs"] |= {"mmle": ["model", 4], "pfj": ["model", 5]}
    tiled = {"vae": ["model", 1], "overlap": 32, "temporal_size": 64, "temporal_overlap": 8, "tile_size": 128}
    prompt["lq"] = {"class_type": "VAEEncodeTiled", "inputs": {"pixels": ["large", 0], **tiled}}
    prompt["decoded"] = {"class_type": "VAEDecodeTiled", "inputs": {"samples": ["merged", 0], **tiled}}
    record = client.record(prompt)
    assert record.entry["status"]["status_str"] == "success", record.entry["status"]["messages"][-1]
    (picture,) = client.pictures(record.entry)["save"]
    assert picture.shape == (SIDE * SCALE, SIDE * SCALE, 3)
    assert record.previews


def sample_latent(pack, loaded, samples, **more):
    run = pack("nodes.host.run")
    nothing = pack("nodes.host.models").null_conditioning(loaded.model)
    settings = pack("nodes.settings").read_settings(**REGIONS)
    base = run.KSamplerSettings(seed=0, steps=2)
    return run.sample_regions(loaded.model, nothing, nothing, {"samples": samples, **more}, settings, base)


@pytest.mark.parametrize("channels", [3, 4, own.CHANNELS + 1])
def test_another_models_latent_is_refused_by_what_made_it(pack, loaded, channels):
    with pytest.raises(ValueError, match=rf"has {channels} channels and the model works on {own.CHANNELS}; encode"):
        sample_latent(pack, loaded, torch.ones(1, channels, 8, 8))


def test_what_is_no_number_is_not_laid_at_the_networks_door(pack, loaded):
    samples = torch.zeros(1, own.CHANNELS, 8, 8)
    with pytest.raises(ValueError, match="the latent holds NaN or infinity; look at what made it"):
        sample_latent(pack, loaded, samples + float("nan"))
    with pytest.raises(ValueError, match="the noise mask holds NaN or infinity"):
        sample_latent(pack, loaded, samples, noise_mask=torch.full((1, 64, 64), float("nan")))


def test_a_frame_that_the_model_does_not_know_is_no_hindrance(pack, loaded):
    samples = torch.rand(1, own.CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
    flat, framed = (sample_latent(pack, loaded, given) for given in (samples, samples[:, :, None]))
    assert torch.equal(flat.estimates, framed.estimates)
