"""On a canvas of many tiles, each tile comes out as the host would sample its crop alone."""

import pytest
import torch

from tests.host import tiny
from tests.host.nearness import TOLERANCE, close
from tests.host.test_equality import SEED

HEIGHT, WIDTH, TILE, OVERLAP, STEPS = 11, 19, 8, 3, 5


def settings_of(pack, solver="euler", intervals="1, 1, 1, 1", **fields):
    settings = pack("nodes.settings")
    given = {"tile_size": TILE * 8, "overlap": OVERLAP * 8, "tile_fit": False, **fields}
    rule = {"gain_threshold": given.pop("threshold", 6e-4), "early_exit": False}
    return settings.read_settings(sampler_name=solver, intervals=intervals, **rule, **given)


def sample_regions(host, pack, model, positive, *, images=1, mask=None, size=(HEIGHT, WIDTH), steps=STEPS, **fields):
    """All tiles, and what they were made of."""
    kept = []
    channels = model.model.latent_format.latent_channels
    latent, noise = tiny.draw(images, channels, *size, seed=1), tiny.draw(images, channels, *size, seed=2)
    sampler = pack("nodes.host.sampler").RegionSampler(settings_of(pack, **fields), kept.append)
    sigmas = tiny.build_sigmas(host, model, steps)
    merged = tiny.sample_host(host, model, positive, tiny.text(9), latent, sampler, sigmas, noise, mask=mask, seed=SEED)
    return kept[0], merged, latent, noise


def scattering(pack):
    """What makes tiles part ways: ratings that jump about from tile to tile and from step to step, and a ladder."""
    mmle = pack("adadiffsr_core.nets.mmle")

    class Erratic(mmle.Mmle):
        def forward(self, denoised, lq_latent, sigma):
            phase = lq_latent[:, 0, 0, 0] * 100 + sigma.log() * 5
            return (phase[:, None] * torch.arange(1, 7)).sin() / 2 + 0.5

    network = Erratic(mmle.MmleConfig())
    mmle = pack("nodes.host.networks").entrust(network)
    return {"mmle": mmle, "intervals": "1, 2, 3", "threshold": 0.05, "steps": 20}


def alone(host, model, positive, negative, latent, noise, **options):
    sigmas = tiny.build_sigmas(host, model, STEPS)
    sampler = host("samplers").sampler_object("euler")
    return tiny.sample_host(host, model, positive, negative, latent, sampler, sigmas, noise, seed=SEED, **options)


def crop(canvas, grid, tile_id, ratio=1):
    image, top, left = grid.locate(tile_id)
    rows, columns = (slice(start * ratio, (start + TILE) * ratio) for start in (top, left))
    return canvas[image % len(canvas)][None, ..., rows, columns]


def check_each(host, model, tiles, latent, noise, prompts_of, mask_of=lambda tile_id: None):
    assert tiles.grid.count > 4
    for tile_id in range(len(latent) * tiles.grid.count):
        here = [crop(canvas, tiles.grid, tile_id) for canvas in (latent, noise)]
        expected = alone(host, model, *prompts_of(tile_id), *here, mask=mask_of(tile_id))
        close(model.model.process_latent_out(tiles.estimates[tile_id][None]), expected)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("tile_batch", [1, 4])
def test_plain_tiles(host, pack, images, tile_batch):
    model = tiny.build_model(host)
    tiles, _, latent, noise = sample_regions(host, pack, model, tiny.text(), images=images, tile_batch=tile_batch)
    check_each(host, model, tiles, latent, noise, lambda tile_id: (tiny.text(), tiny.text(9)))


@pytest.mark.parametrize("images", [1, 2])
def test_controlnet_hints_are_cropped(host, pack, images):
    model, control = tiny.build_model(host), tiny.build_control(host)
    hint = tiny.draw(images, 3, HEIGHT * 8, WIDTH * 8, seed=3).sigmoid()
    other = tiny.build_control(host, 6)

    def prompts(hint):
        positive = tiny.with_control(tiny.text(), control, hint, 0.9, 0.0, 0.7)
        return tiny.with_control(positive, other, 1 - hint, 0.5, 0.3, 1.0)

    tiles, _, latent, noise = sample_regions(host, pack, model, prompts(hint), images=images)
    check_each(host, model, tiles, latent, noise, lambda i: (prompts(crop(hint, tiles.grid, i, 8)), tiny.text(9)))


def test_masks_of_prompts_are_cropped(host, pack):
    model = tiny.build_model(host)
    mask = tiny.draw(1, HEIGHT, WIDTH, seed=4).sigmoid()

    def prompts(mask):
        return tiny.text(0, mask=mask, mask_strength=0.8) + tiny.text(1, mask=1 - mask)

    tiles, _, latent, noise = sample_regions(host, pack, model, prompts(mask))
    check_each(
        host, model, tiles, latent, noise, lambda i: (prompts(crop(mask[:, None], tiles.grid, i)[:, 0]), tiny.text(9))
    )


def test_areas_of_prompts_are_cut(host, pack):
    """Where the cut leaves 8 latent px or all of the area on a side; slivers are grown, see the next test."""
    model = tiny.build_model(host)
    area = (8, 11, 0, 8)  # right of the middle; tiles start at columns 0, 5, 10 and 11

    def prompts(tile_id):
        _, top, left = tiles.grid.locate(tile_id)
        if left < 8:
            return None
        local = (8 - top, 8, 0, 0)
        return tiny.text(0, area=local) + tiny.text(1), tiny.text(9)

    tiles, _, latent, noise = sample_regions(host, pack, model, tiny.text(0, area=area) + tiny.text(1))
    seen = 0
    for tile_id in range(tiles.grid.count):
        given = prompts(tile_id)
        _, top, _ = tiles.grid.locate(tile_id)
        if given is None or top:
            continue
        seen += 1
        here = [crop(canvas, tiles.grid, tile_id) for canvas in (latent, noise)]
        close(model.model.process_latent_out(tiles.estimates[tile_id][None]), alone(host, model, *given, *here))
    assert seen == 2


def test_a_tile_that_an_area_does_not_reach_knows_nothing_of_it(host, pack):
    model = tiny.build_model(host)
    tiles, _, latent, noise = sample_regions(host, pack, model, tiny.text(0, area=(11, 5, 0, 14)) + tiny.text(1))
    assert tiles.grid.locate(0) == (0, 0, 0)
    here = [crop(canvas, tiles.grid, 0) for canvas in (latent, noise)]
    close(
        model.model.process_latent_out(tiles.estimates[0][None]), alone(host, model, tiny.text(1), tiny.text(9), *here)
    )


def test_a_sliver_of_an_area_is_evaluated_at_a_size_that_makes_sense(host, pack):
    model = tiny.build_model(host)
    sizes = []

    def watch(executor, x, *args, **options):
        sizes.append(tuple(x.shape[-2:]))
        return executor(x, *args, **options)

    model.add_wrapper_with_key(host("patcher_extension").WrappersMP.APPLY_MODEL, "watch", watch)
    _, merged, *_ = sample_regions(host, pack, model, tiny.text(0, area=(11, 12, 0, 7)) + tiny.text(1))
    assert set(sizes) == {(8, 8)}
    assert merged.isfinite().all()


def test_noise_masks_are_cropped(host, pack):
    model = tiny.build_model(host)
    mask = tiny.draw(1, 1, HEIGHT, WIDTH, seed=4).sigmoid().round()
    tiles, merged, latent, noise = sample_regions(host, pack, model, tiny.text(), mask=mask)
    check_each(
        host,
        model,
        tiles,
        latent,
        noise,
        lambda i: (tiny.text(), tiny.text(9)),
        lambda i: crop(mask, tiles.grid, i),
    )
    kept = (mask == 0).expand_as(latent)
    torch.testing.assert_close(merged[kept], latent[kept], rtol=0, atol=1e-5)


def test_concatenated_and_reference_latents_are_cropped(host, pack):
    model = tiny.build_model(host, in_channels=9)
    model.model.set_inpaint()
    shown = tiny.draw(1, 4, HEIGHT, WIDTH, seed=4)
    mask = torch.ones(1, 1, HEIGHT, WIDTH)
    mask[..., :9] = 0

    def prompts(shown, mask):
        given = {"concat_latent_image": shown, "concat_mask": mask}
        return tiny.text(0, **given), tiny.text(9, **given)

    kept = []
    latent, noise = tiny.draw(1, 4, HEIGHT, WIDTH, seed=1), tiny.draw(1, 4, HEIGHT, WIDTH, seed=2)
    sampler = pack("nodes.host.sampler").RegionSampler(settings_of(pack), kept.append)
    sigmas = tiny.build_sigmas(host, model, STEPS)
    tiny.sample_host(host, model, *prompts(shown, mask), latent, sampler, sigmas, noise, seed=SEED)
    grid = kept[0].grid
    check_each(host, model, kept[0], latent, noise, lambda i: prompts(crop(shown, grid, i), crop(mask, grid, i)))


def test_reference_latents_of_the_canvas_are_cropped_and_others_are_not(host, pack):
    conditioning = pack("nodes.host.conditioning")
    grid = pack("adadiffsr_core.sampling.tiles").build_grid(HEIGHT, WIDTH, TILE, OVERLAP)
    whole, other = tiny.draw(1, 4, HEIGHT, WIDTH), tiny.draw(1, 4, 6, 6)
    seen = []

    def executor(model, conds, x, sigma, options):
        seen.append(conds[0][0]["model_conds"]["ref_latents"].cond)
        return [x]

    run = conditioning.TiledCall(conditioning.TiledConditioning(grid, 1, 8), [0, 3], None)
    cond = {"model_conds": {"ref_latents": host("conds").CONDList([whole, other])}}
    run(executor, tiny.build_model(host).model, [[cond]], torch.zeros(2, 4, TILE, TILE), torch.ones(2), {})
    cropped, untouched = seen[0]
    assert torch.equal(cropped, torch.cat([crop(whole, grid, 0), crop(whole, grid, 3)]))
    assert torch.equal(untouched, other)


def test_gligen_boxes_move_with_the_tile(host, pack):
    conditioning = pack("nodes.host.conditioning")
    grid = pack("adadiffsr_core.sampling.tiles").build_grid(HEIGHT, WIDTH, TILE, OVERLAP)
    seen = []

    def executor(model, conds, x, sigma, options):
        seen.append((len(x), conds[0][0]["gligen"]))
        return [x]

    run = conditioning.TiledCall(conditioning.TiledConditioning(grid, 1, 8), [*range(grid.count)], None)
    cond = {"model_conds": {}, "gligen": ("position", "model", [("word", 4, 6, 2, 9)])}  # height, width, y, x
    x = tiny.draw(grid.count, 4, TILE, TILE)
    (out,) = run(executor, tiny.build_model(host).model, [[cond]], x, torch.ones(grid.count), {})
    assert torch.equal(out, x)
    assert sum(count for count, _ in seen) == grid.count
    kinds = {gligen[0]: gligen[2] for _, gligen in seen}
    assert kinds["empty"] == []
    boxes = [box for _, gligen in seen for _, *box in gligen[2]]
    assert grid.locate(1) == (0, 0, 5)
    assert [4, 4, 2, 4] in boxes  # columns 9 to 13 of tile 1's 5 to 13


def test_canvases_smaller_than_a_tile(host, pack):
    model, control = tiny.build_model(host), tiny.build_control(host)
    hint = tiny.draw(1, 3, 40, 24, seed=3).sigmoid()
    positive = tiny.with_control(tiny.text(0, area=(5, 2, 0, 1)) + tiny.text(1), control, hint)
    tiles, merged, *_ = sample_regions(host, pack, model, positive, size=(5, 3))
    assert tiles.estimates.shape == (1, 4, TILE, TILE)
    assert merged.shape == (1, 4, 5, 3)
    assert merged.isfinite().all()


@pytest.mark.parametrize("images", [1, 2])
def test_batch_size_changes_nothing(host, pack, images):
    """Adaptive, so that tiles are at different timesteps within a batch."""
    model, control = tiny.build_model(host), tiny.build_control(host)
    hint = tiny.draw(1, 3, HEIGHT * 8, WIDTH * 8, seed=3).sigmoid()
    positive = tiny.with_control(tiny.text(0, area=(8, 11, 0, 8)) + tiny.text(1), control, hint, 1.0, 0.2, 0.6)
    runs = {}
    for batch in (1, 2, 4, 8):
        tiles, merged, *_ = sample_regions(
            host, pack, model, positive, images=images, tile_batch=batch, **scattering(pack)
        )
        runs[batch] = merged, [[step.index for step in tile.steps] for tile in tiles.report.tiles]
    first, timelines = runs[1]
    assert len({tuple(timeline) for timeline in timelines}) > 1
    for merged, others in runs.values():
        assert others == timelines
        torch.testing.assert_close(merged, first, rtol=0, atol=TOLERANCE * float(first.abs().max()))
