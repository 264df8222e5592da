"""Scores and labels of any kind as arrays that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Labels", "Values", "finite_scores", "on_host", "scores_and_truth", "split_by_class"]

Values: TypeAlias = "ArrayLike | Tensor"
Labels: TypeAlias = "ArrayLike | Tensor | Sequence[float | None]"


def on_host(values: Any) -> Any:
    """``values`` of any shape as NumPy can take them: tensors of any device as arrays, and so those in a list."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        return [on_host(value) for value in values]
    return values


def finite_scores(scores: Values) -> NDArray[np.float64]:
    """Scores (N,) or (N, 1), of any number type and on any device, as float64 (N,).

    Args:
        scores: array, tensor or list.

    Raises:
        SaganError: when one is NaN or infinite, is not a number, or there is more than one an image.
    """
    try:
        array = np.asarray(on_host(scores), dtype=np.float64)
    except (TypeError, ValueError):
        raise SaganError("the scores are no plain numbers; give one number an image") from None
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise SaganError(f"the scores have the shape {array.shape}; give one number an image")
    broken = int((~np.isfinite(array)).sum())
    if broken:
        raise SaganError(f"{broken} scores are not finite; the model is broken, train it again")
    return array.reshape(-1)


def scores_and_truth(scores: Values, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, float64 (M,), and whether each image is abnormal (M,), of the M <= N images whose label is known.

    Args:
        scores: (N,), higher is more abnormal.
        labels: (N,), 0 normal, 1 abnormal, of any number type or bool; None or NaN is unknown.

    Raises:
        SaganError: for a score that is not finite, another label, or another number of labels than scores.
    """
    values = finite_scores(scores)
    try:
        truth = np.asarray(on_host(labels), dtype=np.float64).reshape(-1)  # None becomes NaN
    except (TypeError, ValueError):
        raise SaganError("the labels are no plain numbers; 0 is normal, 1 is abnormal, None is unknown") from None
    if len(truth) != len(values):
        raise SaganError(f"there are {len(values)} scores but {len(truth)} labels; give one label an image")
    known = ~np.isnan(truth)
    values, truth = values[known], truth[known]
    strange = truth[(truth != 0) & (truth != 1)]
    if len(strange):
        raise SaganError(f"{strange[0]:g} is no label; 0 is normal, 1 is abnormal, None is unknown")
    return values, truth == 1


def split_by_class(scores: Values, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of normal images (A,) and those of abnormal ones (B,), each float64.

    Args:
        scores: (N,), see `scores_and_truth`.
        labels: (N,), see there.

    Raises:
        SaganError: as `scores_and_truth`.
    """
    values, abnormal = scores_and_truth(scores, labels)
    return values[~abnormal], values[abnormal]
