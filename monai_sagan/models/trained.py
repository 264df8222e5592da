"""A trained generator in a file, with all that using it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan import run_files
from monai_sagan.data.training_range import IMAGE
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.methods import make_network, resolve_settings
from monai_sagan.metrics.conformal import cut_points
from monai_sagan.models.device import network_on
from monai_sagan.models.scorer import Scored, Scorer
from monai_sagan.models.weights import is_artifact, read_weights
from monai_sagan.settings import Settings, as_plain

__all__ = ["Trained", "load_trained"]

VALIDATED = 64  # images at a time: this happens while training holds its memory


@dataclass(frozen=True)
class Trained:
    """A trained model, with the values that were measured on the validation normals when it was saved.

    >>> trained = load_trained("run/model.pt")
    >>> scores, maps = trained.score(torch.zeros(2, 1, 64, 64, dtype=torch.uint8), keep=[0])
    >>> scores.shape, maps.shape
    (torch.Size([2]), torch.Size([1, 1, 64, 64]))

    Args:
        network: in evaluation mode.
        settings: of its run.
        scale: the anomaly map's value at the top of the color scale: the 99.9th percentile of the pixels of
            validation normals.
        pixel_threshold: just above the 99th percentile of the same pixels; a pixel above it counts as abnormal.
        valid_normal_scores: anomaly scores of the validation normals (N,).
        iteration: critic updates done.
        training_range: see `monai_sagan.data.training_range`, with the mean image as a tensor; None in model files of
            older versions.
        amp: score in bfloat16, see `Scorer`; the saved values come from float32.
        run: seed and images of the training, see `monai_sagan.data.digests.describe_run`; None in model files of older
            versions and in artifacts.
        aucp: at the validation before saving; None if unknown.
        aucp_se: its standard error; None if unknown.
    """

    network: nn.Module
    settings: Settings
    scale: float
    pixel_threshold: float
    valid_normal_scores: Tensor
    iteration: int
    training_range: dict[str, Any] | None = None
    amp: bool = False
    run: dict[str, Any] | None = None
    aucp: float | None = None
    aucp_se: float | None = None

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of the network, built from the run's settings."""
        return Scorer.of(self.network, self.settings, self.amp)

    def batches(self, images: Tensor, batch_size: int = 256) -> Iterator[tuple[Tensor, Scored]]:
        """Yield batches of uint8 images (N, C, H, W) with their results, see `Scorer.batches`."""
        return self.scorer.batches(images, batch_size)

    def score(self, images: Tensor, batch_size: int = 256, keep: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Score uint8 images (N, C, H, W); return scores (N,), and anomaly maps of the indices ``keep``.

        The maps (K, 1, H, W) are in rising order of the indices.
        """
        scores, maps, start = [], [], 0
        kept = sorted(keep)
        for _, found in self.batches(images, batch_size):
            scores.append(found.score.cpu())
            inside = [i - start for i in kept if start <= i < start + len(found.score)]
            maps.append(found.anomaly_map[inside].cpu())
            start += len(found.score)
        return (torch.cat(scores), torch.cat(maps)) if scores else (torch.zeros(0), torch.zeros(0, 1, 1, 1))


def describe_trained(
    network: nn.Module,
    settings: Settings,
    valid_normal: Tensor,
    iteration: int,
    training_range: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    **numbers: float,
) -> dict[str, Any]:
    """Build the content of a model file, plain values and tensors, see `Trained`; ``numbers`` are added to it.

    Args:
        network: the trained one.
        settings: of its run.
        valid_normal: validation normals, uint8 (N, C, H, W).
        iteration: critic updates done.
        training_range: see `monai_sagan.data.training_range`.
        run: see `monai_sagan.data.digests.describe_run`.

    Raises:
        SaganError: when the network does not match its settings, so that its file could not be read again.
    """
    with torch.device("meta"):
        wanted = make_network(settings).state_dict()
    try:
        _check_weights(network.state_dict(), wanted)
    except ValueError as error:
        raise SaganError(f"the network is not the one of its settings ({error}); no model of it can be saved") from None
    pixels = valid_normal.shape[0] * valid_normal.shape[-2] * valid_normal.shape[-1]
    highest, scores = torch.zeros(0), []
    for _, found in Scorer.of(network, settings).batches(valid_normal, VALIDATED):
        scores.append(found.score.cpu())
        # Both quantiles lie among the highest values: all maps together need not fit into memory.
        values = torch.cat([highest, found.anomaly_map.flatten().cpu()])
        highest = values.topk(min(_from_above(pixels, 0.99), len(values))).values
    return {
        "model": {name: value.cpu() for name, value in network.state_dict().items()},
        "settings": as_plain(settings),
        "scale": float(highest[_from_above(pixels, 0.999) - 1]),
        "pixel_threshold": float(cut_points(highest.numpy())[0]),
        "valid_normal_scores": torch.cat(scores),
        "iteration": iteration,
        **(
            {}
            if training_range is None
            else {"typical": {**training_range, IMAGE: torch.as_tensor(training_range[IMAGE])}}
        ),
        **({} if run is None else {"run": dict(run)}),
        **numbers,
    }


def _from_above(count: int, share: float) -> int:
    """Rank from the top, starting at 1, of the quantile ``share`` among ``count`` values."""
    return count - max(round(share * count), 1) + 1


def load_trained(path: str | Path, device: str | torch.device = "cpu", amp: bool = False) -> Trained:
    """Load a model file of a training run, or an exported artifact in the safetensors format.

    >>> load_trained("run/model.pt").iteration
    7

    Args:
        path: of the model file, such as ``runs/rsna/model.pt``, of the artifact's folder or of its
            ``model.safetensors``.
        device: of the network.
        amp: see `Trained`.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    content = _content(path)
    try:
        settings = _settings(content["settings"])
        network = make_network(settings)
        _check_weights(content["model"], network.state_dict())
        network.load_state_dict(content["model"])
        return Trained(
            network=network_on(network, device).eval(),
            settings=settings,
            scale=content["scale"],
            pixel_threshold=content["pixel_threshold"],
            valid_normal_scores=content["valid_normal_scores"],
            iteration=content["iteration"],
            training_range=content.get("typical"),
            amp=amp,
            run=content.get("run"),
            aucp=content.get("aucp"),
            aucp_se=content.get("aucp_se"),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _no_model(path, error) from None


def _check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise a ValueError for the first missing, misshapen or unexpected weight."""
    for name, tensor in wanted.items():
        if name not in weights:
            raise ValueError(f"its weights lack {name}, {tuple(tensor.shape)}")
        if (shape := tuple(weights[name].shape)) != tuple(tensor.shape):
            raise ValueError(f"its {name} is {shape}, its settings ask for {tuple(tensor.shape)}")
    if unexpected := [name for name in weights if name not in wanted]:
        raise ValueError(f"its settings have no room for {unexpected[0]}")


def run_models(run_dir: str | Path, oracle_test: bool | None = None) -> dict[str, Path]:
    """Model files of a training run by name: ``aucp``, chosen without labels, ``last``, and ``oracle_test``.

    ``oracle_test`` says whether the last one exists; None looks for it.
    """
    run = Path(run_dir)
    files = {"aucp": run / run_files.MODEL, "last": run / run_files.LAST_MODEL}
    oracle = run / run_files.ORACLE_MODEL
    return files | ({"oracle_test": oracle} if (oracle.is_file() if oracle_test is None else oracle_test) else {})


def read_settings(path: str | Path) -> Settings:
    """Read the settings of a model file or of a safetensors artifact.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    content = _content(path, mmap=True)
    try:
        return _settings(content["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_model(path, error) from None


def read_run(path: str | Path) -> dict[str, Any]:
    """Read the facts about its run from a model file, see `Trained`; empty if it has none.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    return dict(_content(path, mmap=True).get("run") or {})


def _content(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    content = read_weights(path) if is_artifact(path) else load_tensors(path, mmap)
    if "states" in content:
        raise _no_model(path, ValueError("it is a checkpoint, for resuming a run"))
    return content


def _no_model(path: str | Path, error: Exception) -> SaganError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return SaganError(f"{path} is not a model that a SAGAN run wrote ({reason}); give model.pt or model_last.pt")


def _settings(values: Mapping[str, Any]) -> Settings:
    given = {name: "none" if name.endswith("_norm") and value is None else value for name, value in values.items()}
    settings: Settings = resolve_settings("paper", **given)
    return settings
