"""Shift-tolerant LPIPS: learned perceptual distance whose weights come with a package."""

import importlib.resources
import io
from contextlib import redirect_stdout
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.layout import channels_last
from .base import missing_packages


class StLpips(nn.Module):
    """The AlexNet variant, frozen; gradients reach the images, so it also serves as a loss.

    Features of a truth that is compared many times can be computed once, which halves the work.

    Source: Ghildyal and Liu 2022, arXiv:2207.13686.

    Raises:
        MissingExtraError: stlpips-pytorch or one of the packages it imports is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        original = _load_original()
        self.scaling = original.scaling_layer
        self.net = original.net
        heads = [head.model[-1].weight.detach().clone() for head in original.lins]  # without their dropout
        self.heads = nn.ParameterList(nn.Parameter(head, requires_grad=False) for head in heads)
        self.requires_grad_(False)
        channels_last(self)  # a third faster on a CPU

    @property
    def widths(self) -> list[int]:
        """Channels of each stage of `features`."""
        return [head.shape[1] for head in self.heads]

    def features(self, image: Tensor) -> list[Tensor]:
        """Unit-length activations of five stages for images [N,3,H,W] in [0,1], sides of at least 32 px."""
        scaled = self.scaling(image.contiguous(memory_format=torch.channels_last) * 2 - 1)
        return [F.normalize(stage, dim=1, eps=1e-10) for stage in self.net(scaled)]

    def compare(self, features: list[Tensor], reference_features: list[Tensor]) -> Tensor:
        """Distances [N] between two results of `features`; 0 for equal images."""
        distances = [
            F.conv2d((stage - truth).square(), head).mean(dim=(1, 2, 3))
            for stage, truth, head in zip(features, reference_features, self.heads, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distances [N] between images [N,3,H,W] in [0,1]; one truth, expanded, is looked at once."""
        is_shared = len(reference) > 1 and reference.stride(0) == 0
        return self.compare(self.features(image), self.features(reference[:1] if is_shared else reference))


def _load_original() -> Any:
    try:
        from stlpips_pytorch import stlpips
    except ImportError as error:
        raise missing_packages("st_lpips", "stlpips-pytorch ipython torchsummary", error) from error
    with redirect_stdout(io.StringIO()):
        model = stlpips.LPIPS(net="alex", variant="shift_tolerant", pretrained=False, verbose=False)
    weights = importlib.resources.files("stlpips_pytorch") / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    with weights.open("rb") as file:
        # The file names each head once; the model holds them twice, as lin0 and as lins.0.
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True), strict=False)
    return model
