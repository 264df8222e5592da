"""The pointing game and hit rates (FROC) of anomaly maps (N, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.metrics.regions import CORNERS, Regions

Array = NDArray[Any]

FALSE_POSITIVES = (0.5, 1.0, 2.0)  # per image, at which hit rates are reported


def pointing_game(maps: ArrayLike, regions: Regions, tolerance: float = 0.0) -> float | None:
    """The share of images with lesions whose map is highest within one; None without such images.

    Zhang et al. 2018, https://doi.org/10.1007/s11263-017-1059-x, who allow a tolerance of 15 pixels. Where several
    pixels are highest, the share of them within counts. Pixels at most ``tolerance`` from a lesion are within.
    """
    if not regions.has_lesion.any():
        return None
    return float(points_within(regions.values(maps), regions, tolerance)[regions.has_lesion].mean())


def points_within(values: Array, regions: Regions, tolerance: float) -> Array:
    """The share (N,) of each map's highest pixels that lie within ``tolerance`` of a lesion."""
    from scipy.ndimage import binary_dilation

    masks = regions.masks
    if tolerance >= 1:
        reach = np.arange(-int(tolerance), int(tolerance) + 1)
        masks = binary_dilation(masks, (reach[:, None] ** 2 + reach**2 <= tolerance**2)[None])
    flat = values.reshape(regions.shape[0], -1)
    highest = flat == flat.max(1, keepdims=True)
    return np.asarray((highest & masks.reshape(flat.shape)).sum(1) / highest.sum(1))


def hit_rates(
    maps: ArrayLike, regions: Regions, threshold: float, rates: Sequence[float] = FALSE_POSITIVES
) -> list[float | None]:
    """The share of lesions that are hit at each of ``rates`` false positives per image: points of the FROC curve.

    A candidate is a connected part of a map above ``threshold``; its place and its score are those of its highest
    pixel. It hits the lesions that it is placed in, and is a false positive in none; a second candidate in a lesion is
    neither: the rules of the challenges CAMELYON16 (https://doi.org/10.1001/jama.2017.14585) and LUNA16
    (https://doi.org/10.1016/j.media.2017.06.015). All images count, with lesions and without. Only candidates of at
    least some score are kept, as few as the rate demands. None without lesions.
    """
    if not len(regions.image):
        return [None] * len(rates)
    found, false, _ = candidates(regions.values(maps), regions, threshold)
    levels = np.unique(np.concatenate([found[np.isfinite(found)], false]))
    hit, wrong = _above(found, levels)[None] / len(regions.image), _above(false, levels)[None] / regions.shape[0]
    return [float(best_at_rate(hit, wrong, rate)[0]) for rate in rates]


def candidates(values: Array, regions: Regions, threshold: float) -> tuple[Array, Array, Array]:
    """The best score in each lesion (R,), -inf where there is none, and score and image of each false positive."""
    from scipy.ndimage import label

    labels, count = label(values.reshape(regions.shape) > threshold, CORNERS)
    pixels = np.flatnonzero(labels)
    order = np.lexsort((-values[pixels], labels.flat[pixels]))
    first = np.searchsorted(labels.flat[pixels[order]], np.arange(1, count + 1))
    peaks = pixels[order][first]
    scores = np.full(values.shape, -np.inf, dtype=values.dtype)
    scores[peaks] = values[peaks]
    best = np.full(len(regions.image), -np.inf, dtype=values.dtype)
    np.maximum.at(best, regions.lesion, scores[regions.pixels])
    false = peaks[~regions.masks.ravel()[peaks]]
    return best, values[false], false // int(np.prod(regions.shape[1:]))


def _above(values: Array, levels: Array) -> Array:
    """How many values are at least as high as each of the levels (T,), which rise; the highest level first."""
    return np.asarray((len(values) - np.searchsorted(np.sort(values), levels))[::-1])


def best_at_rate(hit: Array, wrong: Array, rate: float) -> Array:
    """The greatest of hit rates (R, T) whose false positives per image (R, T) are at most ``rate``."""
    return np.asarray(np.where(wrong <= rate, hit, 0).max(1, initial=0))
