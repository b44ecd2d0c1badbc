"""Networks that sleep as long as a GPU would take, and photographs for them."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from adadiffsr_core.commands.cluster import Bench, Equipment
from adadiffsr_core.commands.drafts import draft_photo
from adadiffsr_core.commands.making import Order
from adadiffsr_core.commands.naming import Source
from adadiffsr_core.commands.options import set_threads
from adadiffsr_core.commands.plan import PhotoJob, Targets
from adadiffsr_core.models.model import Model
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.settings import SamplingConfig

TILE = 64  # latent px
STEPS = 2  # evaluations of a tile
ENCODE, DECODE = STEPS / 16, STEPS / 8  # of a tile, in evaluations


@dataclass(frozen=True)
class Pace:
    """What the networks are like that sleep.

    Attributes:
        seconds: of one evaluation of a tile.
        factor: px per latent px.
        channels: of latents.
        log: has a byte for each evaluation that was made.
    """

    seconds: float
    factor: int = 1
    channels: int = 4
    log: Path | None = None

    def nap(self, evaluations: float) -> None:
        """Take the time of so many evaluations."""
        time.sleep(self.seconds * evaluations)

    def count(self, evaluations: int) -> None:
        """Write down that they were made."""
        if self.log is not None:
            with self.log.open("ab") as file:
                file.write(b"." * evaluations)

    def config(self, **changes: Any) -> SamplingConfig:
        """How pictures are sampled."""
        overlap, batch = TILE // 8 * self.factor, 1
        plain = SamplingConfig(steps=STEPS, solver="dpmpp_2m", overlap=overlap, tile_batch=batch, tile_fit=False)
        return replace(plain.uniform(1), **changes)

    def model(self) -> Model:
        """Networks that sleep."""
        autoencoder = Autoencoder(
            AutoencoderConfig(
                z_channels=self.channels, patch=self.factor, channels=(8,), encoder_blocks=(1,), decoder_blocks=(1,)
            )
        )
        modules: dict[str, nn.Module] = {"encoder": _Encoder(self), "decoder": _Decoder(self)}
        for name, module in modules.items():
            autoencoder.register_module(name, module)
        config = UNetConfig(
            in_channels=2 * self.channels,
            out_channels=self.channels,
            model_channels=32,
            channel_mult=(1,),
            num_res_blocks=1,
        )
        unet = _Sleeper(config)
        unet.pace = self
        return Model(unet, autoencoder, Schedule())


class _Sleeper(UNet):
    pace: Pace

    def forward(self, x: Tensor, timesteps: Tensor, residuals: Any = None, context: Tensor | None = None) -> Tensor:
        self.pace.nap(len(x))
        self.pace.count(len(x))
        return x.new_zeros(len(x), self.pace.channels, *x.shape[-2:])


class _Encoder(nn.Module):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def forward(self, image: Tensor) -> Tensor:
        height, width = (side // self.pace.factor for side in image.shape[-2:])
        self.pace.nap(ENCODE * height * width / TILE**2)
        return image.new_zeros(len(image), self.pace.channels, height, width)


class _Decoder(nn.Module):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def forward(self, latent: Tensor) -> Tensor:
        self.pace.nap(DECODE * latent.shape[-2] * latent.shape[-1] / TILE**2)
        return F.interpolate(latent[:, :3], scale_factor=float(self.pace.factor))


@dataclass(frozen=True, kw_only=True)
class SleepingEquipment(Equipment):
    """A worker's, which has networks that sleep, and tells which process it is.

    Attributes:
        pace: of the networks.
        pids: a folder with a file for each process.
    """

    pace: Pace
    pids: Path

    def __call__(self) -> Bench:
        """In the worker's process."""
        set_threads(self.seats.threads)
        bench = Bench(self.pace.model(), self.order)
        (self.pids / str(os.getpid())).touch()
        return bench


def side_px(tiles: int, factor: int) -> int:
    """Of so many tiles in a row that overlap by an eighth, at the size that is worked at."""
    return (TILE + (tiles - 1) * TILE * 7 // 8) * factor


def plan_job(out: Path, name: str, size: tuple[int, int], *, in_bands: bool = False) -> PhotoJob:
    """A photograph that becomes one of (height, width) px, four times larger than it is."""
    source, rng = out / f"{name}.png", np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)).save(source)
    draft = draft_photo(Source(source), 4.0, None, lambda before, after: in_bands)
    targets = Targets(result=out / f"{name}-large.png")
    return PhotoJob(
        source=source,
        pages=draft.pages,
        motion=None,
        targets=targets,
        state=draft.state,
        in_bands=draft.in_bands,
    )


def order_for(pace: Pace) -> Order:
    """What is asked for of every picture."""
    return Order(config=pace.config(), mask=None, quality=95, check=False, strip=False)


def plan_folder(folder: Path, count: int, factor: int) -> list[PhotoJob]:
    """Photographs of 2, 4 or 6 tiles."""
    sides = [(side_px(rows, factor), side_px(2, factor)) for rows in (1, 2, 3)]
    return [plan_job(folder, str(number), sides[number % 3]) for number in range(count)]
