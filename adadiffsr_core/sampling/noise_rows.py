"""The host's noise for a seed, row by row: of a canvas that is larger than memory, or of a part of it elsewhere.

Torch draws a normal field in blocks of sixteen, from one stream through all channels. So each channel's stream is found
once, by drawing what lies before it, and goes on by itself from there. If the field is no whole number of blocks, torch
draws its last sixteen values anew.

Source: decision D74.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import check_seed, field_noise

_BLOCK = 16
_CHUNK = 2**20  # values drawn at a time where they are only passed over


@dataclass
class _Stream:
    """One channel's values.

    Attributes:
        generator: stands where the block of value `place` begins.
        place: how many values of the field lie before, a multiple of the block.
        left: values that were drawn and not given yet.
    """

    generator: torch.Generator
    place: int
    left: Tensor


def noise_rows(channels: int, height: int, width: int, seed: int, rows: int = 64) -> Iterator[Tensor]:
    """`field_noise` of `[1,channels,height,width]` from top to bottom, to the bit.

    Args:
        channels, height, width: of the canvas, before padding.
        seed: 0 to 2**64 - 1.
        rows: of each piece but the last.

    Yields:
        `[1,channels,*,width]` float32.

    Raises:
        ConfigError: the seed is out of range.
    """
    field = _Field(channels * height * width, seed)
    if field.total < 4 * _BLOCK:  # torch draws the very small ones in another way
        yield field_noise((1, channels, height, width), seed)
        return
    streams = list(field.find([channel * height * width for channel in range(channels)]))
    for top in range(0, height, rows):
        count = (min(top + rows, height) - top) * width
        yield torch.stack([field.take(stream, count) for stream in streams]).view(1, channels, -1, width)


@dataclass(frozen=True)
class _Field:
    """All values of a canvas, one after another.

    Attributes:
        total: how many.
        seed: 0 to 2**64 - 1.
    """

    total: int
    seed: int

    @property
    def tail(self) -> int:
        """From where values are drawn in one go to the end, or not at all."""
        return self.total // _BLOCK * _BLOCK - (_BLOCK if self.total % _BLOCK else 0)

    def find(self, firsts: Sequence[int]) -> Iterator[_Stream]:
        """A stream for each of these values, in ascending order, which it gives next."""
        generator, place = torch.Generator().manual_seed(check_seed(self.seed)), 0
        for first in firsts:
            begin = min(first // _BLOCK * _BLOCK, self.tail)
            while place < begin:
                count = min(_CHUNK, begin - place)
                torch.randn(count, generator=generator)
                place += count
            stream = _Stream(generator.clone_state(), place, torch.empty(0))
            self.take(stream, first - place)
            yield stream

    def take(self, stream: _Stream, count: int) -> Tensor:
        """The next values of a stream."""
        missing = count - len(stream.left)
        if missing > 0:
            length = -(-missing // _BLOCK) * _BLOCK
            if stream.place + length > self.tail:
                length = self.total - stream.place
            stream.left = torch.cat([stream.left, torch.randn(length, generator=stream.generator)])
            stream.place += length
        values, stream.left = stream.left[:count], stream.left[count:].clone()
        return values
