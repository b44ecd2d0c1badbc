"""The canvas's conditioning, cropped to the tiles of each call.

Source: the host's own pattern for slicing conditioning, its context windows (docs/design.md, "In ComfyUI").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_management
import torch
from torch import Tensor

from ...adadiffsr_core.sampling.tiles import TileGrid, crop_tiles, pad_canvas
from .areas import Box, inside, intersect, to_area, to_box, widen
from .boundaries import hooks_of
from .control import TiledControls
from .devices import Call, Place, evaluate_all, find_places, gather
from .frames import add_frame, as_wanted, drop_frame, is_picture

Cond = dict[str, Any]
Conds = list[list[Cond] | None]


class TiledConditioning:
    """What of the canvas's conditioning each tile sees.

    Attributes:
        grid: where tiles are.
        images: in the batch of canvases.
        injection: adds residuals to a control, or None: `(control, tiles, gain, part) -> control`.
        controls: the user's, cropped.
    """

    def __init__(self, grid: TileGrid, images: int, factor: int, injection: Callable[..., Any] | None = None) -> None:
        self.grid, self.images, self.injection = grid, images, injection
        self.controls = TiledControls(grid, factor)

    def box(self, tile_id: int) -> Box:
        """A tile's place on its canvas."""
        _, top, left = self.grid.locate(tile_id)
        return Box(top, left, *self.grid.tile)


@dataclass(frozen=True)
class TiledCall:
    """A wrapper about the host's evaluation of conditionings: it sees the tiles' x, and crops the rest to match.

    Tiles that an area prompt cuts differently cannot share a call of the network, and get one for each way of cutting.

    Attributes:
        conditioning: of the canvas.
        tiles: ids of the tiles of this call, in the order of x.
        gain: `[B,2]` of this call, or None.
    """

    conditioning: TiledConditioning
    tiles: Sequence[int]
    gain: Tensor | None

    def __call__(
        self, executor: Any, model: Any, conds: Conds, x: Tensor, sigma: Tensor, model_options: dict[str, Any]
    ) -> list[Tensor]:
        """Evaluate conditionings for a batch of tiles; see the host's `calc_cond_batch`."""
        tiles = [*self.tiles] * (len(x) // len(self.tiles))  # another pack's node may double the batch
        places = find_places(model, model_options, x.device)
        if any("gligen" in cond for each in conds for cond in each or []):
            places = places[:1]  # of its network the host makes no copies

        def evaluate(rows: list[int], x: Tensor, sigma: Tensor) -> list[Tensor]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            seek_keyframes(model, conds, sigma, model_options)
            parts = min(len(places), len(rows))
            shares = zip(_split(rows, parts), x.tensor_split(parts), sigma.tensor_split(parts), strict=True)
            calls = [
                (place, self._prepare(executor, conds, place, *share))
                for place, share in zip(places, shares, strict=False)
            ]
            found = [[drop_frame(each) for each in part] for part in evaluate_all(calls, model_options)]
            return found[0] if parts == 1 else [gather(each, x.device) for each in zip(*found, strict=True)]

        groups = self._group(conds, tiles)
        if len(groups) == 1:
            return evaluate(groups[0], x, sigma)
        merged = [torch.zeros_like(x) for _ in conds]
        for rows in groups:
            for whole, values in zip(merged, evaluate(rows, x[rows], sigma[rows]), strict=True):
                whole[rows] = values
        return merged

    def _prepare(self, executor: Any, conds: Conds, place: Place, rows: list[int], x: Tensor, sigma: Tensor) -> Call:
        """What a device has to do for some rows of the batch, its conditionings cropped for it."""
        tiles = [self.tiles[row % len(self.tiles)] for row in rows]
        gain = None if self.gain is None else self.gain[[row % len(self.gain) for row in rows]]
        cropper = _Cropper(self.conditioning, tiles, gain, place.device)
        local = [None if cond is None else cropper.crop_all(cond) for cond in conds]
        given = as_wanted(x.to(place.device), place.model), sigma.to(place.device)
        return lambda: executor(place.model, local, *given, place.options)

    def _group(self, conds: Conds, tiles: Sequence[int]) -> list[list[int]]:
        """Rows whose conditioning is cut alike."""
        cut = [cond for each in conds for cond in each or [] if "area" in cond or "gligen" in cond]
        groups: dict[Any, list[int]] = {}
        for row, tile_id in enumerate(tiles):
            groups.setdefault(tuple(self._cut(cond, self.conditioning.box(tile_id)) for cond in cut), []).append(row)
        return list(groups.values())

    def _cut(self, cond: Cond, tile: Box) -> Any:
        area = intersect(to_box(cond["area"], self.conditioning.grid.canvas), tile) if "area" in cond else None
        gligen = tuple(intersect(Box(*place), tile) for _, place in _gligen_boxes(cond)) if "gligen" in cond else None
        return area, gligen


class _Cropper:
    """Crops for one call: tiles whose conditioning is cut alike."""

    def __init__(self, run: TiledConditioning, tiles: list[int], gain: Tensor | None, device: torch.device) -> None:
        self.run, self.tiles, self.gain, self.device = run, tiles, gain, device
        self.tile = run.box(tiles[0])
        # The host evaluates conditionings together only if they share the control object itself.
        self.controls: dict[tuple[int, Box, Box], Any] = {}

    def crop_all(self, conds: list[Cond]) -> list[Cond]:
        """Every conditioning that reaches into these tiles."""
        return [local for local in map(self._crop, conds) if local is not None]

    def _crop(self, cond: Cond) -> Cond | None:
        local, tile = cond.copy(), self.tile
        part = Box(0, 0, tile.height, tile.width)
        frame = Box(0, 0, *self.run.grid.canvas)
        if "mask" in cond:
            mask = cond["mask"]  # with a frame in third place from the end for models that have frames
            mask = self._crop_canvas(mask) if mask.ndim == 4 else self._crop_canvas(mask[:, None])[:, 0]
            local["mask"] = mask.to(self.device)
        if "area" in cond:
            frame = to_box(cond["area"], self.run.grid.canvas)
            cut = intersect(frame, tile)
            if cut is None:
                return None
            part = widen(cut, frame, tile)
            local["area"] = to_area(part)
            if part != cut:
                local["mask"] = local.get("mask", 1.0) * inside(cut, tile, self.device)
        if "gligen" in cond:
            local["gligen"] = _crop_gligen(cond, tile)
        local["model_conds"] = {name: self._crop_value(value) for name, value in cond["model_conds"].items()}
        control = self._control(cond.get("control"), frame, part)
        if control is not None:
            local["control"] = control
        return local

    def _control(self, control: Any, frame: Box, part: Box) -> Any:
        key = (id(control), frame, part)
        if key not in self.controls:
            if hasattr(control, "get_instance_for_device"):
                control = control.get_instance_for_device(self.device)
            cropped = self.run.controls.crop(control, self.tiles, frame, part, self.device)
            if self.run.injection is not None:
                cropped = self.run.injection(cropped, self.tiles, self.gain, part)
            self.controls[key] = cropped
        return self.controls[key]

    def _crop_value(self, value: Any) -> Any:
        """A conditioning of the model, such as text, a concatenated latent or reference latents."""
        if isinstance(value, comfy.conds.CONDList):
            return value._copy_with([self._crop_tensor(tensor).to(self.device) for tensor in value.cond])
        if isinstance(value, comfy.conds.CONDConstant) or not isinstance(getattr(value, "cond", None), Tensor):
            return value
        return value._copy_with(self._crop_tensor(value.cond).to(self.device))

    def _crop_tensor(self, tensor: Tensor) -> Tensor:
        if is_picture(tensor):
            return add_frame(self._crop_tensor(drop_frame(tensor)))
        if tensor.ndim == 4 and tuple(tensor.shape[-2:]) == self.run.grid.canvas:
            return self._crop_canvas(tensor)
        if len(tensor) == 1:
            return tensor
        return tensor[[self.run.grid.locate(tile_id)[0] % len(tensor) for tile_id in self.tiles]]

    def _crop_canvas(self, canvas: Tensor) -> Tensor:
        """`[M,C,H,W]`, repeated over the images as the host does, to `[B,C,h,w]`."""
        images, grid = self.run.images, self.run.grid
        if len(canvas) != images:
            rows = [image % len(canvas) for image in range(images)]
            canvas = canvas.expand(images, -1, -1, -1) if len(canvas) == 1 else canvas[rows]
        return crop_tiles(pad_canvas(canvas, grid), grid, self.tiles)


def _split(rows: list[int], parts: int) -> list[list[int]]:
    """As `Tensor.tensor_split` does."""
    return [part.tolist() for part in torch.tensor(rows).tensor_split(parts)]


def _gligen_boxes(cond: Cond) -> list[tuple[Any, tuple[int, int, int, int]]]:
    """Embeddings and places (top, left, height, width) of a GLIGEN conditioning."""
    return [(embedding, (y, x, height, width)) for embedding, height, width, y, x in cond["gligen"][2]]


def _crop_gligen(cond: Cond, tile: Box) -> tuple[Any, ...]:
    """Boxes where this tile sees them; those that it does not see are left out."""
    kind, model, _ = cond["gligen"][:3]
    seen = [(embedding, intersect(Box(*place), tile)) for embedding, place in _gligen_boxes(cond)]
    local = [(embedding, box.height, box.width, box.top, box.left) for embedding, box in seen if box is not None]
    return (kind if local else "empty", model, local)


def seek_keyframes(model: Any, conds: Conds, sigma: Tensor, model_options: dict[str, Any]) -> None:
    """Set weight hooks to the key frame of this noise level: the host's move forward only, tiles come and go.

    Guaranteed steps, which count calls, have no meaning when every tile has its own timeline.
    """
    hooks = [hook for each in conds for cond in each or [] for hook in hooks_of(cond)]
    if not hooks:
        return
    level, has_moved = float(sigma[0]), False
    for hook in hooks:
        group = hook.hook_keyframe
        index = max(i for i, frame in enumerate(group.keyframes) if i == 0 or frame.start_t >= level)
        has_moved |= index != group._current_index
        group._current_index, group._current_keyframe = index, group.keyframes[index]
        group._current_strength, group._curr_t = group.keyframes[index].strength, level
    if has_moved:
        patchers = model_options.get("multigpu_clones", {model.current_patcher.load_device: model.current_patcher})
        for patcher in patchers.values():
            patcher.patch_hooks(None)
            patcher.cached_hook_patches.clear()
