"""A trained generator in a file, with all that using it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_sagan.artifact.weights import is_artifact, read_weights
from monai_sagan.data.typical import IMAGE
from monai_sagan.engines.device import network_on
from monai_sagan.engines.scoring import restore
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors
from monai_sagan.networks import SaganGenerator
from monai_sagan.settings import Settings, as_plain, resolve_settings
from monai_sagan.transforms.functional import anomaly_score

__all__ = ["Trained", "describe_trained", "load_trained", "read_settings", "run_models"]

VALIDATED = 64  # images at a time: this happens while training holds its memory


@dataclass(frozen=True)
class Trained:
    """A generator ready to restore, and what was measured on the validation normals when it was saved.

    Args:
        network: the generator, in evaluation mode.
        settings: the run's.
        scale: the anomaly map's value at the top of the color scale: the 99.9th percentile of the pixels of
            validation normals.
        pixel_threshold: the 99th percentile of the same pixels, above which a pixel counts as abnormal.
        valid_normal_scores: anomaly scores of the validation normals (N,).
        iteration: critic updates done.
        typical: what the training images look like, see `monai_sagan.data.typical.measure_typical`, the mean image as
            a tensor; None in model files of older versions.
        amp: restore in bfloat16, see `monai_sagan.engines.scoring.restore`; what was measured when it was saved is of
            float32.
        aucp: of the validation after which it was saved; None where it is not known.
        aucp_se: its standard error; likewise.
    """

    network: nn.Module
    settings: Settings
    scale: float
    pixel_threshold: float
    valid_normal_scores: Tensor
    iteration: int
    typical: dict[str, Any] | None = None
    amp: bool = False
    aucp: float | None = None
    aucp_se: float | None = None

    def restore(self, images: Tensor, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of images, restored versions (B, C, H, W) in [-1, 1] and anomaly maps (B, 1, H, W) in [0, 1].

        As the run's settings say, see `monai_sagan.engines.scoring.restore`.

        Args:
            images: uint8 (N, C, H, W).
            batch_size: images at a time; the results do not depend on it.
        """
        return restore(self.network, images, batch_size, **self.settings.mapping(), amp=self.amp)

    def score(self, images: Tensor, batch_size: int = 256, keep: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Anomaly scores (N,) of uint8 images (N, C, H, W), and the anomaly maps (K, 1, H, W) of those in ``keep``.

        Args:
            images: uint8 (N, C, H, W).
            batch_size: images at a time; the results do not depend on it.
            keep: indices of images, in any order; the maps come in rising order.
        """
        scores, maps, start = [], [], 0
        kept = sorted(keep)
        for _, _, found in self.restore(images, batch_size):
            scores.append(anomaly_score(found).cpu())
            inside = [i - start for i in kept if start <= i < start + len(found)]
            maps.append(found[inside].cpu())
            start += len(found)
        return (torch.cat(scores), torch.cat(maps)) if scores else (torch.zeros(0), torch.zeros(0, 1, 1, 1))


def describe_trained(
    network: nn.Module,
    settings: Settings,
    valid_normal: Tensor,
    iteration: int,
    typical: Mapping[str, Any] | None = None,
    **numbers: float,
) -> dict[str, Any]:
    """What a model file holds: plain values and tensors, see `Trained`; ``numbers`` are kept beside them.

    Args:
        network: the generator.
        settings: the run's.
        valid_normal: validation normals, uint8 (N, C, H, W).
        iteration: critic updates done.
        typical: of the training images, see `monai_sagan.data.typical.measure_typical`.
    """
    pixels = valid_normal.shape[0] * valid_normal.shape[-2] * valid_normal.shape[-1]
    highest, scores = torch.zeros(0), []
    for _, _, maps in restore(network, valid_normal, VALIDATED, **settings.mapping()):
        scores.append(anomaly_score(maps).cpu())
        # Both quantiles lie among the highest values: all maps together need not fit into memory.
        found = torch.cat([highest, maps.flatten().cpu()])
        highest = found.topk(min(_from_above(pixels, 0.99), len(found))).values
    return {
        "model": {name: value.cpu() for name, value in network.state_dict().items()},
        "settings": as_plain(settings),
        "scale": float(highest[_from_above(pixels, 0.999) - 1]),
        "pixel_threshold": float(highest[_from_above(pixels, 0.99) - 1]),
        "valid_normal_scores": torch.cat(scores),
        "iteration": iteration,
        **({} if typical is None else {"typical": {**typical, IMAGE: torch.as_tensor(typical[IMAGE])}}),
        **numbers,
    }


def _from_above(count: int, share: float) -> int:
    """The place from above, counted from 1, of the quantile of ``share`` among ``count`` sorted values."""
    return count - max(round(share * count), 1) + 1


def load_trained(path: str | Path, device: str | torch.device = "cpu", amp: bool = False) -> Trained:
    """Read a model file that a training run wrote, or an exported artifact of the format safetensors.

    Args:
        path: of the model file, such as ``runs/rsna/model.pt``; or the artifact's folder or ``model.safetensors``.
        device: where its network goes.
        amp: see `Trained`.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    content = _content(path)
    try:
        settings = _settings(content["settings"])
        network = SaganGenerator(**settings.generator())
        _check_weights(content["model"], network.state_dict())
        network.load_state_dict(content["model"])
        return Trained(
            network=network_on(network, device).eval(),
            settings=settings,
            scale=content["scale"],
            pixel_threshold=content["pixel_threshold"],
            valid_normal_scores=content["valid_normal_scores"],
            iteration=content["iteration"],
            typical=content.get("typical"),
            amp=amp,
            aucp=content.get("aucp"),
            aucp_se=content.get("aucp_se"),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _no_model(path, error) from None


def _check_weights(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Name the first of the ``wanted`` weights that is missing or of another shape, or the first that is too many."""
    for name, tensor in wanted.items():
        if name not in weights:
            raise ValueError(f"its weights lack {name}, {tuple(tensor.shape)}")
        if (shape := tuple(weights[name].shape)) != tuple(tensor.shape):
            raise ValueError(f"its {name} is {shape}, its settings ask for {tuple(tensor.shape)}")
    if unexpected := [name for name in weights if name not in wanted]:
        raise ValueError(f"its settings have no room for {unexpected[0]}")


def run_models(run_dir: str | Path, oracle_test: bool | None = None) -> dict[str, Path]:
    """The model files of a run by their names: ``aucp``, chosen without labels, then ``last``, then ``oracle_test``.

    Args:
        run_dir: of a training run.
        oracle_test: whether there is one; None looks for it.
    """
    run = Path(run_dir)
    files = {"aucp": run / "model.pt", "last": run / "model_last.pt"}
    oracle = run / "model_oracle_test.pt"
    return files | ({"oracle_test": oracle} if (oracle.is_file() if oracle_test is None else oracle_test) else {})


def read_settings(path: str | Path) -> Settings:
    """The settings of the run that wrote the model file, or the model of the safetensors artifact, at ``path``.

    Raises:
        SaganError: naming the file when it is missing, broken or of another kind.
    """
    content = _content(path)
    try:
        return _settings(content["settings"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _no_model(path, error) from None


def _content(path: str | Path) -> dict[str, Any]:
    content = read_weights(path) if is_artifact(path) else load_tensors(path)
    if "states" in content:
        raise _no_model(path, ValueError("it is the checkpoint that a run goes on from"))
    return content


def _no_model(path: str | Path, error: Exception) -> SaganError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return SaganError(f"{path} is no model that a SAGAN run wrote ({reason}); give model.pt or model_last.pt")


def _settings(values: Mapping[str, Any]) -> Settings:
    given = {name: "none" if name.endswith("_norm") and value is None else value for name, value in values.items()}
    return resolve_settings("paper", **given)
