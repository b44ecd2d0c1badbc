"""From photographs to an `MmleTask`: walks of the frozen model and their metrics, whoever hosts the model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...data.arrays import Cache, check_caches
from ...data.dataset import PairDataset, PhotoSplit, check_size, split_photos
from ...data.origin import claim_cache
from ...data.tiles import TileDataset
from ...errors import ConfigError
from ...metrics.base import Metric
from ...metrics.registry import metric_info
from ...models.networks import load_mmle
from ...models.processor import Processor
from ..recipe import MmleRecipe
from ..tasks.mmle import MmleTask, RatedWalks
from ..tasks.setup import Examples, TaskSetup
from .difficulty import knows_difficulty, teach_difficulty, write_difficulty
from .targets import measure_targets, target_folder, target_layouts
from .walked_model import WalkedModel
from .walks import build_walks, walk_layouts

LEAST_PHOTOS = 4


def check_recipe(recipe: MmleRecipe, model: WalkedModel) -> None:
    """Refuse a recipe that does not fit the model.

    Raises:
        ConfigError: its tiles or latents are not the model's.
    """
    check_size(recipe.data.size_px, model.factor * model.multiple, "this model needs")
    if recipe.net.latent_channels != model.channels:
        raise ConfigError(f"net must have {model.channels} latent_channels for this model")


def check_disk(recipe: MmleRecipe, model: WalkedModel, folder: Path) -> None:
    """Refuse walks that the disk has no room for, before anything says that they are being made.

    Raises:
        DiskError: walks and their metrics need more than is free.
    """
    caches: dict[Path, Cache] = {}
    for name, count in (("held_out", recipe.held_out), ("walks", recipe.walks)):
        caches[folder / name] = walk_layouts(recipe.walk, model, count, recipe.data.size_px)
        for metric in recipe.net.metrics:
            place = target_folder(folder / name, metric_info(metric), recipe.reference)
            caches[place] = target_layouts(count, recipe.walk.visits)
    check_caches(caches, "make room, or ask for fewer walks or smaller tiles")


def split_few(photos: Sequence[Path], holdout: float) -> tuple[float, PhotoSplit]:
    """Hold out about a share `holdout`, or more of a small collection, so that there is something on either side.

    Returns:
        The share that was taken, and the split.

    Raises:
        ConfigError: there are fewer than `LEAST_PHOTOS` photographs, or all are crops of one.
    """
    if len(photos) < LEAST_PHOTOS:
        raise ConfigError(
            f"there are {len(photos)} photographs and at least {LEAST_PHOTOS} are needed, to learn from some and "
            "measure on others; some hundreds teach well"
        )
    while holdout < 1:
        split = split_photos(photos, holdout)
        if split.train and split.held_out:
            return holdout, split
        holdout *= 1.5
    raise ConfigError("all pictures are of one photograph, so that none is left to measure on; add others")


@dataclass(frozen=True)
class Teacher:
    """What the regressor is taught by, already where it works.

    Attributes:
        model: the frozen networks.
        metrics: by name, those of the recipe's `net` in its order.
    """

    model: WalkedModel
    metrics: Mapping[str, Metric]


def rate_walks(
    recipe: MmleRecipe,
    teacher: Teacher,
    split: PhotoSplit,
    folder: Path,
    origin: Mapping[str, object],
    on_step: Callable[[int], None] = lambda more: None,
) -> Examples[RatedWalks, RatedWalks]:
    """Walk degraded tiles and measure them, going on where an earlier call stopped.

    Args:
        recipe: how.
        teacher: walks and measures.
        split: photographs.
        folder: of the caches.
        origin: what they are made from, see `claim_cache`.
        on_step: told how many more walks are walked or measured, `2 * (walks + held_out)` in all.

    Raises:
        ConfigError: the folder holds other walks, or no walk to measure on has all metrics defined.
        ShapeError: tiles are too small for a metric.
    """
    # Find out now what would fail after all the walking.
    image = torch.rand(1, 3, *[recipe.data.size_px] * 2, generator=torch.Generator().manual_seed(0))
    for metric in teacher.metrics.values():
        metric(image, image)

    def rate(name: str, paths: Sequence[Path], seed: int, count: int) -> RatedWalks:
        claim_cache(folder / name, origin)
        dataset = PairDataset(paths, recipe.data, seed, count)
        walks = build_walks(folder / name, dataset, teacher.model, recipe.walk, seed, on_step)
        values = measure_targets(walks, teacher.metrics, recipe.reference, teacher.model.decode, on_step)
        return RatedWalks(walks, values)

    held_out = rate("held_out", split.held_out, recipe.loop.seed + 1, recipe.held_out)
    walks = rate("walks", split.train, recipe.loop.seed, recipe.walks)
    if len(held_out.usable) == 0:
        raise ConfigError("no held-out walk has all metrics defined; the photographs may be flat, use others")
    return Examples(walks, held_out)


def learn_difficulty(
    recipe: MmleRecipe,
    model: WalkedModel,
    split: PhotoSplit,
    folder: Path,
    on_step: Callable[[int], None] = lambda more: None,
) -> Path:
    """Teach the regressor in `weights.safetensors` difficulty; what was taught before is not taught again.

    Args:
        recipe: how.
        model: that the regressor is of.
        split: photographs.
        folder: of the regressor's run.
        on_step: told how many more walks are done, `ends + held_out_ends` in all.

    Returns:
        The regressor that was taught, `taught.safetensors` beside the other.
    """
    weights, out, seed = folder / "weights.safetensors", folder / "taught.safetensors", recipe.loop.seed
    if out.exists() and knows_difficulty(out, weights):
        on_step(recipe.ends + recipe.held_out_ends)
        return out
    tiles = Examples(
        TileDataset(split.train, recipe.data, seed, recipe.ends),
        TileDataset(split.held_out, recipe.data, seed + 1, recipe.held_out_ends),
    )
    sampling = replace(recipe.walk.sampling, seed=seed)
    taught, facts = teach_difficulty(model, load_mmle(weights), tiles, sampling, on_step)
    write_difficulty(weights, taught, facts, out)
    return out


def make_task(
    recipe: MmleRecipe, walks: Examples[RatedWalks, RatedWalks], model: str, processor: Processor
) -> MmleTask:
    """The regressor's task.

    Args:
        recipe: how it learns.
        walks: of `rate_walks`.
        model: name of the one that was walked, for the exported file.
        processor: that the regressor learns on.
    """
    facts = {"model": model, "reference": recipe.reference, "walks": recipe.walks, **recipe.walk.to_dict()}
    setup = TaskSetup(processor, recipe.loop.seed, facts)
    return MmleTask(recipe.net, recipe.task, walks, recipe.walk.sampling, setup)


def describe_figures(figures: Mapping[str, float], metrics: Sequence[str]) -> str:
    """What `MmleTask.check` found, in lines: rank correlation of each metric, and agreement of classes.

    Args:
        figures: of held-out photographs.
        metrics: in the order of the lines.
    """
    lines = ["Rank correlation with each metric on held-out photographs (1 is perfect):"]
    for name in metrics:
        whole, within, change = (_say(figures[name + end]) for end in ("", ".within", ".change"))
        lines.append(f"{name}: {whole} in all, {within} within a walk, {change} of its changes")
    agreement, is_open, commonest = (
        _say(figures[name]) for name in ("class_agreement", "class_agreement.open", "commonest_class.open")
    )
    lines.append(
        f"The class chosen agrees in {agreement} of decisions, {is_open} of the open ones "
        f"(always guessing their commonest would in {commonest})."
    )
    return "\n".join(lines)


def describe_difficulty(facts: Mapping[str, Any]) -> str:
    """What `teach_difficulty` found, in a line, of a regressor's facts."""
    ranks = [rank for rank in facts["difficulty"]["rank_correlation"] if rank is not None]
    found = _say(max(ranks)) if ranks else "unknown"
    return f"Which regions stray where steps are skipped: {found} (rank correlation, as above)."


def _say(value: float) -> str:
    return "unknown" if value != value else f"{value:.2f}"
