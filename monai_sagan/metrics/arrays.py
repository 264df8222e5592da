"""Checked arrays of scores and labels of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from torch import Tensor

Values: TypeAlias = "ArrayLike | Tensor"
Labels: TypeAlias = "ArrayLike | Tensor | Sequence[float | None]"


def on_host(values: Any) -> Any:
    """``values`` with tensors of any device, those in a list included, as arrays."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        return [on_host(value) for value in values]
    return values


def finite_scores(scores: Values) -> NDArray[np.float64]:
    """Scores (N,) or (N, 1) as float64 (N,), all of them finite."""
    try:
        array = np.asarray(on_host(scores), dtype=np.float64)
    except (TypeError, ValueError):
        raise SaganError("the scores are not plain numbers; give one number an image") from None
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise SaganError(f"the scores have the shape {array.shape}; give one number an image")
    broken = int((~np.isfinite(array)).sum())
    if broken:
        raise SaganError(f"{broken} scores are not finite; the model is broken, train it again")
    return array.reshape(-1)


def scores_and_truth(scores: Values, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, float64 (M,), and whether each image is abnormal, bool (M,), of the M images whose label is known."""
    values = finite_scores(scores)
    try:
        truth = np.asarray(on_host(labels), dtype=np.float64).reshape(-1)  # None becomes NaN
    except (TypeError, ValueError):
        raise SaganError("the labels are not plain numbers; 0 is normal, 1 is abnormal, None is unknown") from None
    if len(truth) != len(values):
        raise SaganError(f"there are {len(values)} scores but {len(truth)} labels; give one label an image")
    known = ~np.isnan(truth)
    values, truth = values[known], truth[known]
    strange = truth[(truth != 0) & (truth != 1)]
    if len(strange):
        raise SaganError(f"{strange[0]:g} is not a label; 0 is normal, 1 is abnormal, None is unknown")
    return values, truth == 1


def split_by_class(scores: Values, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of normal images (A,) and those of abnormal ones (B,), each float64."""
    values, abnormal = scores_and_truth(scores, labels)
    return values[~abnormal], values[abnormal]
