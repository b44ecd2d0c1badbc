"""The host's base schedule as the core takes it."""

import torch
from torch import Tensor


def drop_repeats(sigmas: Tensor) -> Tensor:
    """A schedule without neighbours that are equal: steps from a noise level to itself, which change nothing.

    The host makes such where it is asked for more steps than the model knows noise levels, such as 20 at a denoise of
    0.01, and its own samplers walk through them.

    Args:
        sigmas: `[N+1]`; one that rises stays as it is, for the core to refuse.

    Returns:
        `[M+1]`, M at most N.
    """
    return torch.cat([sigmas[:1], sigmas[1:][sigmas.diff() != 0]])
