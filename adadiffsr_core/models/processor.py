"""What trains: a device and its precision, chosen once and carried by every task, so that no task knows which it is."""

import copy
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ..nets.layout import channels_last
from ..sampling.transfer import send

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

# Odd constants of two well-known mixers: neighbouring seeds and steps must not give related streams.
_MIX_SEED, _MIX_STEP = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


@dataclass(frozen=True)
class Processor:
    """A device, and whether networks run there in bfloat16 by autocast (weights, moments and losses stay float32).

    Attributes:
        device: where networks, photographs and draws are.
        bfloat16: autocast of the forward passes.
        compiles: let torch compile what is installed.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    bfloat16: bool = False
    compiles: bool = False

    @classmethod
    def open(cls, device: torch.device, bfloat16: bool | None = None, *, compiles: bool = False) -> Self:
        """Use `device`; None for `bfloat16` takes it where the device is built for it.

        On CUDA float32 products that are left are taken in TF32: what they feed is rounded to bfloat16 next.
        """
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True  # shapes do not change within a run
        return cls(device, has_fast_bfloat16(device) if bfloat16 is None else bfloat16, compiles)

    def autocast(self, *, kept: bool = True) -> AbstractContextManager[None]:
        """The precision of forward passes.

        Args:
            kept: whether weights that were cast are kept until the end, which takes half of their own size.
        """
        if not self.bfloat16:
            return nullcontext()  # and `meta` knows no autocast
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=kept)

    def place(self, values: Tensor) -> Tensor:
        """A tensor of the CPU's on the device, without waiting for the copy where memory is pinned for it."""
        return send(values, self.device)

    def install(self, module: M) -> M:
        """A network on the device, laid out as convolutions like it there."""
        installed = channels_last(module).to(self.device)
        if self.compiles:
            installed.compile()  # in place: the names of its weights stay
        return installed

    def record(self, module: nn.Module, *inputs: Tensor) -> None:
        """Let a network that is trained be replayed as CUDA graphs, forward and backward, for inputs like these.

        A processor takes longer to launch a small network's kernels one by one than a GPU to run them (decision D58).
        Elsewhere, where torch compiles, and where a graph cannot be made, the network stays what it is.

        Args:
            module: in training, without hooks; on the device.
            inputs: of the shapes, layouts and dtypes that it will be called with, all of them and nothing else.
        """
        if self.device.type != "cuda" or self.compiles:
            return
        # Recording goes backwards, too, and from then on gradients come from the stream that was recorded; torch (2.11,
        # not all releases) warns of that once.
        if (warn := getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)) is not None:
            warn(False)
        try:
            with self.autocast(kept=False):
                torch.cuda.make_graphed_callables(module, inputs, allow_unused_input=True)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            logger.warning("the network is not replayed as a graph, which would be faster: %s", reason)

    def borrow(self, module: M) -> M:
        """A network if it is on the device, else a copy there, such as of averages that are kept in a file."""
        if all(weight.device.type == self.device.type for weight in module.parameters()):
            return module
        # Copied at once to where it goes: there may be no room for two of it where it is.
        moved = {id(weight): nn.Parameter(weight.to(self.device), False) for weight in module.parameters()}
        return copy.deepcopy(module, moved).to(self.device)

    def generator(self, seed: int, step: int) -> torch.Generator | None:
        """What `torch.randn` draws from at step `step`, on the device; None on `meta`, which draws nothing."""
        if self.device.type == "meta":
            return None
        mixed = (seed * _MIX_SEED ^ (step + 1) * _MIX_STEP) & (2**63 - 1)
        return torch.Generator(self.device).manual_seed(mixed)

    def synchronize(self) -> None:
        """Wait until all work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there; where no instruction knows it, it is ten times slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # torch has no public word for it, and not in every release.
        words = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(word() for word in words if word is not None)
    return False
