"""The embedded model in the host: its MODEL and VAE, the region-aware node against our own pipeline, and files."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.host import tiny
from tests.host.pack import PACK

SCALE = 1.0  # its latents are handed on as they are


@pytest.fixture(scope="module")
def loaded(host, pack):
    checkpoints = pack("nodes.host.checkpoints")
    return checkpoints.open_checkpoint(checkpoints.find_checkpoint(checkpoints.EMBEDDED))


@pytest.fixture(scope="module")
def model(pack):
    return pack("adadiffsr_core.models.model").load_model()


@pytest.fixture(scope="module")
def photo():
    with Image.open(PACK / "photos" / "coffee.jpg") as opened:
        levels = np.asarray(opened.convert("RGB").resize((160, 120), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(levels / 255)[None]


def close(ours, theirs, tolerance=1e-4):
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, float(theirs.abs().max())))


def test_the_vae_is_ours_in_the_hosts_scale(loaded, model, photo):
    latent = loaded.vae.encode(photo)
    close(latent * SCALE, model.encode(photo.movedim(-1, 1)))
    close(loaded.vae.decode(latent).movedim(-1, 1), model.decode(latent * SCALE))


def test_the_hosts_copies_for_other_devices_hold_the_same_weights(loaded):
    for patcher in (loaded.model, loaded.vae.patcher):
        if not hasattr(patcher, "deepclone_multigpu"):
            pytest.skip("this ComfyUI makes no copies for other devices")
        copied = patcher.deepclone_multigpu(torch.device("cpu"))
        assert copied.model is not patcher.model
        theirs, ours = copied.model.state_dict(), patcher.model.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], value) for key, value in ours.items())


@torch.inference_mode()
def test_the_tiled_vae_nodes_work(loaded, photo):
    large = photo.repeat(1, 5, 4, 1)
    whole = loaded.vae.encode(large)
    tiled = loaded.vae.encode_tiled(large, tile_x=512, tile_y=512, overlap=64)
    assert ((whole - tiled).abs() * SCALE).mean() < 5e-3
    assert (
        loaded.vae.decode(whole) - loaded.vae.decode_tiled(whole, tile_x=32, tile_y=32, overlap=8)
    ).abs().mean() < 5e-3


def networks(pack, seed=0):
    """An MMLE and a PFJ for the embedded model that say something."""
    mmle, pfj = pack("adadiffsr_core.nets.mmle"), pack("adadiffsr_core.nets.pfj")
    unet = pack("adadiffsr_core.models.model").load_model().unet.config
    injection = pfj.PfjConfig(latent_channels=unet.out_channels, channels=unet.widths)
    regressor = mmle.MmleConfig(latent_channels=unet.out_channels)
    return tiny.randomise(mmle.Mmle(regressor), seed), tiny.randomise(pfj.Pfj(injection), seed)


@pytest.mark.parametrize("with_networks", [False, True])
@pytest.mark.parametrize("merge", ["final", "every_step"])
@torch.inference_mode()
def test_the_node_does_what_the_command_line_does(host, pack, loaded, model, photo, with_networks, merge):
    from dataclasses import replace

    pipeline, settings = pack("adadiffsr_core.pipeline"), pack("nodes.settings")
    pack("adadiffsr_core.settings").PRESETS["everyday"]
    entrust, merging = pack("nodes.host.networks").entrust, pack("adadiffsr_core.sampling.merge")
    mmle, pfj = networks(pack) if with_networks else (None, None)
    latent = loaded.vae.encode(photo)
    config = replace(
        pack("adadiffsr_core.settings").PRESETS["everyday"],
        tile_size=64,
        overlap=16,
        steps=10,
        seed=5,
        merge=merge,
        pfj_strength=0.3,
    )
    ours, report, grid = pipeline.sample_latent(replace(model, mmle=mmle, pfj=pfj), latent * SCALE, config)
    numbers = pack("adadiffsr_core.sampling.config").RegionConfig(
        solver=config.solver,
        dtss=config.dtss,
        tile_size=64,
        overlap=16,
        merge=merge,
        pfj_strength=config.pfj_strength,
    )
    chosen = settings.RegionSettings(
        config=numbers,
        mmle=entrust(mmle) if mmle else None,
        pfj=entrust(pfj) if pfj else None,
        own_networks=False,
    )
    null = loaded.null_prompt
    runs = pack("nodes.host.run")
    base = runs.KSamplerSettings(seed=5, steps=10, cfg=1.0, scheduler="simple", denoise=1.0)
    tiles = runs.sample_regions(loaded.model, null, null, {"samples": latent}, chosen, base)
    assert tiles.grid == grid
    assert [tile.nfe for tile in tiles.report.tiles] == [tile.nfe for tile in report.tiles]
    close(merging.merge_tiles(tiles.estimates, tiles.grid) * SCALE, ours)
    if with_networks:
        plain, *_ = pipeline.sample_latent(model, latent * SCALE, config)
        assert (plain - ours).abs().max() > 0.01


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_an_untrained_pfj_changes_nothing(host, pack, strength):
    from tests.host.test_cropping import sample_regions

    nets, model = pack("adadiffsr_core.nets.pfj"), tiny.build_model(host)
    pfj = pack("nodes.host.networks").entrust(nets.Pfj(nets.PfjConfig(channels=(32, 64))))
    control = tiny.with_control(tiny.text(), tiny.build_control(host), tiny.draw(1, 3, 88, 152, seed=3).sigmoid())
    _, without, *_ = sample_regions(host, pack, model, control)
    _, merged, *_ = sample_regions(host, pack, model, control, pfj=pfj, pfj_strength=strength)
    assert torch.equal(merged, without)


def test_a_pfj_adds_to_a_controlnet_and_works_under_area_prompts(host, pack):
    from tests.host.test_cropping import sample_regions

    nets, model = pack("adadiffsr_core.nets.pfj"), tiny.build_model(host)
    pfj = pack("nodes.host.networks").entrust(tiny.randomise(nets.Pfj(nets.PfjConfig(channels=(32, 64)))))
    prompts = tiny.text(0, area=(11, 12, 0, 7)) + tiny.text(1)
    control = tiny.with_control(prompts, tiny.build_control(host), tiny.draw(1, 3, 88, 152, seed=3).sigmoid())
    results = [
        sample_regions(host, pack, model, positive, pfj=network, pfj_strength=100.0)[1]
        for positive in (prompts, control)
        for network in (None, pfj)
    ]
    assert all(result.isfinite().all() for result in results)
    for place, result in enumerate(results):
        for other in results[:place]:
            assert (result - other).abs().max() > 1e-3 * result.abs().max()


def test_networks_of_another_model_are_refused(host, pack, loaded):
    from tests.host.test_cropping import sample_regions

    nets, model = pack("adadiffsr_core.nets.pfj"), tiny.build_model(host)
    entrust = pack("nodes.host.networks").entrust
    with pytest.raises(ValueError, match="64, 128, 192 channels; the model has 32, 64"):
        sample_regions(host, pack, model, tiny.text(), pfj=entrust(nets.Pfj(nets.PfjConfig())))
    for mode in ("concat", "cross_attention"):
        rival = entrust(nets.Pfj(nets.PfjConfig(channels=(32, 64), mode=mode)))
        with pytest.raises(ValueError, match=f"trained in mode {mode}, which runs outside ComfyUI only"):
            sample_regions(host, pack, model, tiny.text(), pfj=rival)
    wide = tiny.build_model(host, "flow", in_channels=16, channels=16, latent_format="SD3")
    pfj = entrust(nets.Pfj(nets.PfjConfig(channels=(32, 64))))
    with pytest.raises(ValueError, match="latents of 4 channels; the model's have 16"):
        sample_regions(host, pack, wide, tiny.text(), pfj=pfj)
    regressors = pack("adadiffsr_core.nets.mmle")
    mmle = entrust(regressors.Mmle(regressors.MmleConfig()))
    with pytest.raises(ValueError, match="latents of 4 channels; the model's have 16"):
        sample_regions(host, pack, wide, tiny.text(), mmle=mmle)


def write(path, kind):
    if kind == "text":
        path.write_text("no weights")
    elif kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes((PACK / "adadiffsr_core" / "weights" / "embedded.safetensors").read_bytes()[: 10**6])
    return path


@pytest.mark.parametrize("kind", ["text", "foreign", "cut"])
def test_files_that_are_no_checkpoints_are_refused_in_a_sentence(pack, tmp_path, kind):
    errors = pack("adadiffsr_core.errors")
    path = write(tmp_path / "thing.safetensors", kind)
    with pytest.raises(errors.CheckpointError, match=r"thing\.safetensors") as refused:
        pack("nodes.host.checkpoints").open_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_files_are_found_in_our_folder_and_in_the_users_paths(host, pack, tmp_path):
    folders, errors = pack("nodes.host.folders"), pack("adadiffsr_core.errors")
    folders.add_model_folder()
    folders.folder_paths.add_model_folder_path(folders.FOLDER, str(tmp_path))
    write(tmp_path / "mine.safetensors", "foreign")
    (tmp_path / "mine.ckpt").write_text("a pickle")
    assert "mine.safetensors" in folders.list_files()
    assert "mine.ckpt" not in folders.list_files()
    assert folders.find_file("mine.safetensors", folders.FOLDER) == tmp_path / "mine.safetensors"
    with pytest.raises(errors.CheckpointError, match=r"no file other\.safetensors in models/adadiffsr"):
        folders.find_file("other.safetensors", folders.FOLDER)


@pytest.mark.parametrize(("node", "name"), [("LoadMmle", "mmle"), ("LoadPfj", "pfj")])
def test_the_embedded_networks_can_be_loaded_by_themselves(pack, loaded, node, name):
    loader = getattr(pack("nodes.loaders"), node)
    (chosen,) = [row for row in loader.GET_SCHEMA().inputs if row.id == "file"]
    assert chosen.options[0] == "embedded model"
    (alone,) = loader.execute("embedded model").args
    whole = getattr(loaded, name).module.state_dict()
    assert alone.module.state_dict().keys() == whole.keys()
    assert all(torch.equal(value, whole[key]) for key, value in alone.module.state_dict().items())
