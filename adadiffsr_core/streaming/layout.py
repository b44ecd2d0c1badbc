"""Where a picture is cut when it is made in bands: for each piece of work the rows that it is made of, and no pixels.

Source: decision D74.
"""

from dataclasses import dataclass
from functools import cached_property

from ..errors import ConfigError
from ..models.model import Model
from ..nets.blocks import BlockMap
from ..photo.back_projection import MARGIN, projects
from ..photo.colour import WAVELET_REACH
from ..photo.enlarging import reduced_rows, source_rows
from ..photo.scales import Size, Work, plan_work
from ..pipeline import plan_tiles
from ..sampling.compute_mask import FEATHER_PX
from ..sampling.run import FULL_BATCHES, TILE_BATCH
from ..sampling.tiles import TileGrid
from ..settings import SamplingConfig

Rows = tuple[int, int]  # first, and one past the last

_FINISHED_PX = 128  # rows of the size that is worked at, finished at a time


@dataclass(frozen=True)
class Layout:
    """How one picture is cut.

    Attributes:
        model: the networks.
        source: (height, width) of the picture, px.
        size: of the result.
        config: how to sample.
        is_left: whether a compute mask is black all over, so that the picture is enlarged and nothing else.

    Raises:
        ConfigError: it cannot be, and the message says what would have to be otherwise.
    """

    model: Model
    source: Size
    size: Size
    config: SamplingConfig
    is_left: bool = False

    def __post_init__(self) -> None:
        if self.size[0] < self.source[0] or self.size[1] < self.source[1]:
            raise ConfigError("a picture that gets smaller cannot be made in bands; ask for its own size or more")
        if self.config.merge != "final":
            raise ConfigError("merge every_step needs the whole picture in memory; use merge final")
        if self.config.colour == "adain":
            raise ConfigError("the colour match adain needs the whole picture in memory; use wavelet or none")

    @cached_property
    def work(self) -> Work:
        """The size that is worked at."""
        return Work(self.size) if self.is_left else plan_work(self.source, self.size, self.model.scales, most=None)

    @cached_property
    def grid(self) -> TileGrid:
        """Where tiles are."""
        return plan_tiles(self.model.sizes, self.work.size, self.config)

    @property
    def factor(self) -> int:
        """Px per latent px, at the size that is worked at."""
        return self.model.sizes.factor

    @property
    def channels(self) -> int:
        """Of the latents."""
        return self.model.autoencoder.config.z_channels

    @property
    def part_rows(self) -> int:
        """Rows of tiles in a part."""
        return max(1, -(-FULL_BATCHES * (self.config.tile_batch or TILE_BATCH) // self.grid.cols))

    @property
    def has_budget(self) -> bool:
        """Whether a part's tiles share their evaluations, so that its pixels depend on which tiles it has."""
        return self.config.dtss.rule == "bounded" and self.config.dtss.budget > 0

    def parts(self, begin: int = 0) -> list[Rows]:
        """Rows of tiles, from row `begin` on, that are sampled together: as few as fill the network's batches."""
        each = self.part_rows
        return [(first, min(first + each, self.grid.rows)) for first in range(begin, self.grid.rows, each)]

    def first_row(self, canvas_row: int) -> int:
        """Where to begin with rows of tiles, so that all are there that reach a latent row, or lie below it.

        With a part, and so with the same batches wherever work begins: a run that goes on does what one that is not
        stopped does, and has the same report.
        """
        row, _ = self.tiles_about((canvas_row, canvas_row + 1))
        return row - row % self.part_rows

    def decodes_from(self, row: int) -> list[Rows]:
        """Rows of the decoder's blocks that a row of the result, and all below it, are made of."""
        top = self.finish_needs((row, row + 1))[0]
        return [block_row for block_row in self.decoder.rows if self.worked_rows(block_row)[1] > top]

    def encodes_from(self, row: int) -> list[Rows]:
        """Rows of the encoder's blocks that a row of tiles, and all below it, are made of."""
        top = self.grid.tops[row] * self.factor
        return [block_row for block_row in self.encoder.rows if block_row[1] > top]

    def canvas_rows(self, part: Rows) -> Rows:
        """The latent rows that rows of tiles cover."""
        return self.grid.tops[part[0]], min(self.grid.canvas[0], self.grid.tops[part[1] - 1] + self.grid.tile[0])

    def tiles_about(self, latents: Rows) -> Rows:
        """The rows of tiles that latent rows lie in."""
        tops, side = self.grid.tops, self.grid.tile[0]
        found = [row for row, top in enumerate(tops) if top < latents[1] and top + side > latents[0]]
        return found[0], found[-1] + 1

    def latent_rows(self, rows: Rows) -> Rows:
        """The latent rows that rows of the size that is worked at lie in."""
        return rows[0] // self.factor, -(-rows[1] // self.factor)

    # Encoding.

    @cached_property
    def encoder(self) -> BlockMap:
        """The encoder's blocks, px."""
        height, width = self.grid.canvas
        return self.model.autoencoder.encoder_map((height * self.factor, width * self.factor))

    def encoder_needs(self, block_row: Rows) -> Rows:
        """The picture's rows that one row of the encoder's blocks is made of."""
        top, bottom = self.encoder.reach(block_row)
        return self.enlarged_needs((min(top, self.work.size[0] - 1), bottom))

    def enlarged_needs(self, rows: Rows) -> Rows:
        """The picture's rows that rows of the enlarged one are made of."""
        height = self.work.size[0]
        return source_rows(self.source[0], height, rows[0], min(rows[1], height))

    # Decoding.

    @cached_property
    def decoder(self) -> BlockMap:
        """The decoder's blocks, latent px of a canvas whose edge is repeated."""
        return self.model.autoencoder.decoder_map(self.grid.canvas, "cpu")

    @property
    def edge(self) -> int:
        """Latent px by which the decoder's canvas is repeated on each side."""
        return self.model.autoencoder.config.decoder_border

    def decoded_rows(self, block_row: Rows) -> Rows:
        """Px rows, of the canvas at the size that is worked at, that one row of the decoder's blocks becomes."""
        height = self.grid.canvas[0]
        inside = (min(max(row - self.edge, 0), height) for row in block_row)
        top, bottom = (row * self.factor for row in inside)
        return top, bottom

    def worked_rows(self, block_row: Rows) -> Rows:
        """Those of them that are not beyond the picture's lower edge."""
        top, bottom = (min(row, self.work.size[0]) for row in self.decoded_rows(block_row))
        return top, bottom

    def decoder_needs(self, block_row: Rows) -> Rows:
        """The latent rows that one row of the decoder's blocks is made of."""
        return self.canvas_inside(self.decoder.reach(block_row))

    def canvas_inside(self, block_row: Rows) -> Rows:
        """The latent rows that some of the decoder's are, whose first and last are the canvas's edge repeated."""
        edge, last = self.edge, self.grid.canvas[0] - 1
        return min(max(0, block_row[0] - edge), last), max(1, min(last, block_row[1] - edge - 1) + 1)

    # Finishing.

    def finished_rows(self, block_row: Rows) -> Rows:
        """Rows of the result that need no other row of the decoder's blocks; none, or fewer, if it is low."""
        (top, bottom), (height, after) = self.worked_rows(block_row), (self.work.size[0], self.size[0])
        first = -(-(top + self._reach) * after // height) if top else 0
        last = after if bottom == height else (bottom - self._reach) * after // height
        return first, max(0, last)

    def seam_edges(self, block_row: Rows) -> Rows:
        """Where the rows that the seam above needs end, and where those begin that the one below needs."""
        (top, bottom), (first, last) = self.worked_rows(block_row), self.finished_rows(block_row)
        above = self.finish_needs((first - 1, first))[1] if first else top
        below = self.finish_needs((last, last + 1))[0] if last < self.size[0] else bottom
        return above, below

    @cached_property
    def projects(self) -> bool:
        """See `projects`."""
        return projects(self.work.size, self.size, self.config.colour)

    @cached_property
    def _reach(self) -> int:
        beside = -(-MARGIN * self.work.size[0] // self.source[0]) if self.projects else 0
        return beside + (WAVELET_REACH if self.config.colour == "wavelet" else 0)

    @property
    def result_rows(self) -> list[Rows]:
        """Rows of the result that are finished together."""
        each = max(1, _FINISHED_PX * self.size[0] // self.work.size[0])
        return [(top, min(top + each, self.size[0])) for top in range(0, self.size[0], each)]

    def finish_needs(self, rows: Rows) -> Rows:
        """Rows of the size that is worked at that rows of the result are made of."""
        height, reach = self.work.size[0], self._reach
        top, _ = reduced_rows(height, self.size[0], rows[0])
        _, bottom = reduced_rows(height, self.size[0], rows[1] - 1)
        return max(0, top - reach), min(height, bottom + reach)

    def kept_needs(self, rows: Rows) -> Rows:
        """Rows of the result whose mask tells what these keep."""
        return max(0, rows[0] - FEATHER_PX), min(self.size[0], rows[1] + FEATHER_PX)
