"""The self-test: generated images with the trained model's scores, which an exported model must reproduce."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monai_sagan.errors import SaganError
from monai_sagan.metrics.conformal import TOLERANCE

TIE = 1e-6  # scores that differ by less may change places

Run = Callable[[NDArray[Any], int], dict[str, NDArray[Any]]]  # `monai_sagan.artifact.Artifact.run`


class Case(NamedTuple):
    """An input and its expected outputs."""

    image: NDArray[Any]  # whole numbers (C, H, W), 0 to 255 with 8 ``bits``, 0 to 65535 with 16
    bits: int  # 8 or 16
    score: float  # the anomaly score, in [0, 1]
    p_value: float  # its p-value, in (0, 1]


def write_self_test(cases: list[Case], path: Path) -> None:
    """Write cases as arrays that NumPy reads without pickle."""
    arrays: dict[str, Any] = {f"image_{number:02d}": case.image for number, case in enumerate(cases)}
    for name in ("bits", "score", "p_value"):
        arrays[name] = np.array([getattr(case, name) for case in cases])
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_self_test(path: Path) -> list[Case]:
    """Read what `write_self_test` wrote."""
    try:
        with np.load(path, allow_pickle=False) as content:
            columns = [content[name].tolist() for name in ("bits", "score", "p_value")]
            images = [content[f"image_{number:02d}"] for number in range(len(columns[0]))]
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(f"{path} is not a self-test ({reason}); export the model again") from None
    return [Case(*case) for case in zip(images, *columns, strict=True)]


def check_self_test(run: Run, path: Path, count: int | None = None) -> list[tuple[Case, float]]:
    """Run the first ``count`` cases, by default all; raise unless scores and their order are reproduced.

    Returns each case with the score found.
    """
    cases = read_self_test(path)[:count]
    outputs = [run(case.image[None], case.bits) for case in cases]
    found = [float(output["score"][0]) for output in outputs]
    for number, (case, score) in enumerate(zip(cases, found, strict=True), 1):
        if not abs(score - case.score) <= TOLERANCE:
            raise SaganError(
                f"{path.parent} does not compute what it did when it was exported: image {number} of its self-test "
                f"scores {score:.7f}, not {case.score:.7f}; update what runs it, or export the model again"
            )
    in_order = np.array(found)[np.argsort([case.score for case in cases], kind="stable")]
    if (np.diff(in_order) < -TIE).any():
        raise SaganError(f"{path.parent} ranks the images of its self-test in another order; export the model again")
    return list(zip(cases, found, strict=True))
