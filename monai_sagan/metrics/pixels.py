"""Pixelwise metrics of anomaly maps (N, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.metrics.regions import Regions

Array = NDArray[Any]

MAX_FPR = 0.3  # of the per-region overlap, as in MVTec AD


def pixel_metrics(maps: ArrayLike, regions: Regions) -> dict[str, float | None]:
    """Metrics of all pixels, ranked by their map's value; None without pixels in lesions or without others.

    ``pixel_ap`` and ``pixel_auc`` are average precision and area under the ROC curve. ``dice_oracle`` is the best
    Dice coefficient over all thresholds, which is unknown in practice. ``pro`` is the per-region overlap: the share
    of a lesion above a threshold, averaged over lesions so that small ones count as much as large ones, and over the
    false positive rates of pixels up to 0.3; 1 is perfect (Bergmann et al. 2021,
    https://doi.org/10.1007/s11263-020-01400-4).
    """
    values, inside = regions.values(maps), regions.masks.ravel()
    order = np.argsort(-values[inside], kind="stable")
    lesion, overlap = values[inside][order], regions.shares[inside][order].cumsum()
    last = np.flatnonzero(np.append(lesion[1:] != lesion[:-1], True)[: len(lesion)])  # equal values share a threshold
    found = np.stack([last + 1.0, overlap[last]])
    # The curves turn at the values of lesions alone: once just above each, once at it, and at last below all values.
    before, total = np.pad(found, ((0, 0), (1, 0))), np.array([[len(lesion)], [len(regions.image)]])
    abnormal, covered = np.append(np.stack([before[:, :-1], found], axis=2).reshape(2, -1), total, axis=1)
    every = np.sort(values)
    ranks = [np.searchsorted(every, lesion[last], side=side) for side in ("right", "left")]
    above = np.append(len(every) - np.stack(ranks, axis=1).ravel(), len(every))
    curves = pixel_curves(abnormal[None], (above - abnormal)[None], covered[None])
    return {name: _number(value[0]) for name, value in curves.items()}


def dice(maps: ArrayLike, regions: Regions, threshold: float) -> float | None:
    """The Dice coefficient of all pixels above ``threshold`` with all pixels in lesions; None without lesions.

    The threshold must come from elsewhere, as that of a model does: a quantile of the pixels of validation normals.
    """
    above = regions.values(maps) > threshold
    inside = regions.masks.ravel()
    return _number(2 * (above & inside).sum() / (above.sum() + inside.sum())) if inside.any() else None


def pixel_curves(abnormal: Array, normal: Array, overlap: Array) -> dict[str, Array]:
    """The metrics (R,) of R rows of counts (R, T) above each of T thresholds, the highest first."""
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, fpr, covered = abnormal / abnormal[:, -1:], normal / normal[:, -1:], overlap / overlap[:, -1:]
        precision = abnormal / np.maximum(abnormal + normal, 1)
        return {
            "pixel_ap": (np.diff(recall, axis=1, prepend=0) * precision).sum(1),
            "pixel_auc": _area(fpr, recall, 1.0),
            "pro": _area(fpr, covered, MAX_FPR),
            "dice_oracle": (2 * recall / (recall + 1 + normal / abnormal[:, -1:])).max(1),
        }


def _area(fpr: Array, height: Array, limit: float) -> Array:
    """The mean height (R,) of curves through (0, 0) and points (R, T), over ``fpr`` from 0 to ``limit``."""
    x0, x1 = np.pad(fpr, ((0, 0), (1, 0)))[:, :-1], fpr
    y0, y1 = np.pad(height, ((0, 0), (1, 0)))[:, :-1], height
    end = np.minimum(x1, limit)
    y_end = y0 + (y1 - y0) * np.divide(end - x0, x1 - x0, out=np.ones_like(x0), where=x1 > x0)
    return np.asarray(np.where(x0 < limit, (end - x0) * (y0 + y_end) / 2, 0 * x1).sum(1) / limit)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
