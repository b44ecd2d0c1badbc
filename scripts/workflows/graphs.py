"""The shipped workflows and blueprints, each described once."""

from collections.abc import Callable

from .blueprint import Face
from .graph import Graph
from .one_node import compute_mask, quality, upscale
from .step_by_step import adaptive_and_uniform, any_guider, own_checkpoint, upscale_4x, upscale_blueprint

GRAPHS: tuple[Callable[[Graph], None], ...] = (
    upscale,
    upscale_4x,
    own_checkpoint,
    adaptive_and_uniform,
    compute_mask,
    quality,
    any_guider,
)
# By the names that people see.
BLUEPRINTS: dict[str, Callable[[Graph], Face]] = {"Upscale step by step (AdaDiffSR)": upscale_blueprint}
