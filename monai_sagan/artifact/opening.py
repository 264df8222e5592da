"""Opening an artifact: nothing of it runs before its hashes are checked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.artifact.runtimes import OUTPUTS, WITHOUT_RESTORED, Runtime, load_runtime
from monai_sagan.artifact.self_test import check_self_test
from monai_sagan.data.training_range import training_range_from_json
from monai_sagan.errors import SaganError
from monai_sagan.models.facts import SELF_TEST, Facts, check_files, read_facts

__all__ = ["Artifact", "open_artifact"]

LEAST, GREATEST = -(2**31), 2**31 - 1  # int32 goes into the graph
CASES_AT_LOAD = 2  # of the self-test, one of 8 and one of 16 bits: all take 3 s at the published size


class Artifact:
    """An exported model, ready to run.

    >>> from monai_sagan.artifact.export import export_artifact
    >>> artifact = open_artifact(export_artifact("run", "artifact"))
    >>> outputs = artifact.run(np.zeros((2, 1, 100, 120), np.uint8))
    >>> outputs["score"].shape, outputs["anomaly_map"].shape
    ((2,), (2, 1, 64, 64))
    """

    def __init__(self, folder: Path, facts: Facts, runtime: Runtime) -> None:
        self.folder = folder
        self.facts = facts
        self._runtime = runtime

    @property
    def format(self) -> str:
        """``"safetensors"``, ``"torchscript"``, ``"onnx"`` or ``"torch_export"``."""
        return str(self.facts["format"])

    @cached_property
    def training_range(self) -> dict[str, Any] | None:
        """The training range, see `monai_sagan.data.training_range`; None if unknown."""
        return training_range_from_json(self.facts["typical"])

    def run(self, image: NDArray[Any], bits: int = 8) -> dict[str, NDArray[Any]]:
        """Restore and score images, whole numbers (B, C, H, W) or (H, W) of any size.

        With 8 ``bits`` the values 0 to 255 are taken as they are, others as the nearest of these; with 16 each image is
        stretched from its minimum and maximum to 0 and 255.

        Returns:
            ``image``, uint8 (B, C, h, w), the input of the network; ``restored``, float32 (B, C, h, w) in (-1, 1);
            ``anomaly_map``, float32 (B, 1, h, w) in [0, 1]; ``score`` and ``p_value``, float32 (B,): see
            `monai_sagan.transforms.functional.anomaly_score` and `monai_sagan.metrics.conformal_p_values`.
        """
        channels = self.facts["model"]["in_channels"]
        if not isinstance(image, np.ndarray):
            raise SaganError(f"the images are a {type(image).__name__}; give a NumPy array of whole numbers")
        batch = image[None, None] if image.ndim == 2 else image
        if batch.ndim != 4 or batch.shape[1] != channels or not batch.size or batch.dtype.kind not in "iu":
            raise SaganError(
                f"the images are {batch.dtype} {image.shape}; this model takes whole numbers of the shape "
                f"(batch, {channels}, height, width)"
            )
        if bits not in (8, 16):
            raise SaganError(f"bits is {bits}; it is 8 or 16")
        if batch.min() < LEAST or batch.max() > GREATEST:
            raise SaganError(
                f"the images have values from {batch.min()} to {batch.max()}; this model takes {LEAST} to {GREATEST}"
            )
        outputs = self._runtime(np.ascontiguousarray(batch, np.int32), bits)
        names = OUTPUTS if len(outputs) == len(OUTPUTS) else WITHOUT_RESTORED
        return dict(zip(names, outputs, strict=True))


def open_artifact(path: str | Path, check: bool = True, threads: int | None = None) -> Artifact:
    """Open an artifact that ``monai-sagan export`` wrote.

    Every file is compared with its SHA-256 first, which detects damaged or swapped files. An attacker can recompute the
    hashes: open artifacts only from a trusted source. A `SaganError` names what is missing, changed, not installed, of
    a newer version, or scores otherwise.

    Args:
        path: its folder.
        check: also run the first cases of its self-test; ``monai-sagan verify`` runs all.
        threads: of the computation; None takes one per core. All torch models of a process share them.

    >>> from monai_sagan.artifact.export import export_artifact
    >>> artifact = open_artifact(export_artifact("run", "opened"))
    >>> artifact.format, artifact.facts["model"]["image_size"]
    ('safetensors', [64, 64])
    """
    folder = Path(path)
    facts = read_facts(folder)
    check_files(folder, facts)
    artifact = Artifact(folder, facts, load_runtime(folder, facts, threads))
    if check:
        check_self_test(artifact.run, folder / SELF_TEST, CASES_AT_LOAD)
    return artifact
