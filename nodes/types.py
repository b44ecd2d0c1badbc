"""The kinds of link that only this pack has."""

from comfy_api.v0_0_2 import io

TilesType = io.Custom("ADADIFFSR_TILES")
MmleType = io.Custom("ADADIFFSR_MMLE")
PfjType = io.Custom("ADADIFFSR_PFJ")
