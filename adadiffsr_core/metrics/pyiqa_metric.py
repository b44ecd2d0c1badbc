"""Metrics of the pyiqa toolbox: quiet, never hanging without a network, refusing in our words."""

import io
import pickle
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .base import missing_packages


def load_pyiqa(
    name: str, device: torch.device, weights: Path | None = None, may_download: bool = False
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """One of pyiqa's metrics as a function of checked images.

    Args:
        name: pyiqa's own name of the metric.
        device: where it works.
        weights: a local file with its weights; otherwise pyiqa looks in its cache and may try to download.
        may_download: the metric has weights on a hub, so ask whether the hub answers.

    Raises:
        MissingExtraError: pyiqa is missing or installed without something that this metric needs.
        CheckpointError: the weights are neither here nor to be had, or the local file is damaged.
    """
    options = {} if weights is None else {"pretrained_model_path": str(_checked(weights))}
    printed = io.StringIO()
    try:
        with _quiet(printed), _hub_access(may_download):
            import pyiqa

            network = pyiqa.create_metric(name, device=device, **options)
    except (ImportError, KeyError) as error:  # KeyError: pyiqa skips an architecture whose imports fail
        raise missing_packages(name, "pyiqa", error) from error
    except OSError as error:  # what urllib and the hub's client raise
        raise CheckpointError(_explain_missing(name, printed.getvalue(), error)) from error
    except Exception as error:  # each file format's reader has its own
        if weights is None:
            raise
        raise CheckpointError(f"{weights} is damaged; get a fresh copy ({error})") from error
    return lambda image, reference: _measure_each(network, image, reference)


def _measure_each(network: Any, image: Tensor, reference: Tensor | None) -> Tensor:
    """One image at a time: in a batch BRISQUE's sums mix, and one flat image would spoil all."""
    inputs = (image,) if reference is None else (image, reference)
    with _quiet(io.StringIO()):
        values = [_measure_one(network, *(each[n : n + 1] for each in inputs)) for n in range(len(image))]
    return torch.stack(values).to(image.device)


def _measure_one(network: Any, *images: Tensor) -> Tensor:
    try:
        return torch.as_tensor(network(*images), dtype=torch.float32).reshape(())
    except AssertionError:  # the images have been checked, so this is "no variance"
        return torch.tensor(torch.nan, device=images[0].device)


@contextmanager
def _quiet(printed: io.StringIO) -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(printed):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _hub_access(may_download: bool) -> Iterator[None]:
    """HF_HUB_OFFLINE=1 unless the hub answers; its client would retry for 48 s."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    # The variable itself is read once, when the client is imported.
    constants.HF_HUB_OFFLINE = before or not (may_download and _answers(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=3).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _checked(weights: Path) -> Path:
    """Refuse a pickle that runs code, which pyiqa would load."""
    if weights.suffix == ".pth":
        try:
            torch.load(weights, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{weights} is damaged or holds more than weights; get a fresh copy") from error
    return weights


def _explain_missing(name: str, printed: str, error: Exception) -> str:
    announced = re.findall(r'Downloading: "\S+/([^/"]+)" to (\S+)', printed)
    if announced:
        file, place = announced[-1]
        return f"{name} needs the weights {file}, which cannot be downloaded here; put that file at {place}"
    first_line = str(error).splitlines()[0]
    return (
        f"{name} needs weights that cannot be downloaded here; fill the hub's cache on another machine ({first_line})"
    )
