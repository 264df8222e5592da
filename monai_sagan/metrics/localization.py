"""Localization metrics of anomaly maps (N, H, W) against boxes or masks of lesions.

Intervals are percentiles of a bootstrap over images, those with lesions and those without drawn apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.metrics.arrays import on_host
from monai_sagan.metrics.hits import FALSE_POSITIVES, best_at_rate, candidates, hit_rates, pointing_game, points_within
from monai_sagan.metrics.pixels import dice, pixel_curves, pixel_metrics
from monai_sagan.metrics.regions import Regions, read_regions

if TYPE_CHECKING:
    from monai_sagan.data.datasets.items import Item

__all__ = ["localization_metrics"]

Array = NDArray[Any]

BINS = 512  # of values when resampling; the values themselves are exact


def localization_metrics(
    maps: ArrayLike,
    items: Sequence[Item],
    sizes: Sequence[tuple[int, int]],
    threshold: float,
    tolerance: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """`pixel_metrics`, `dice`, `pointing_game` and `hit_rates` of maps (N, H, W), each with a 95 % interval.

    Undefined values are None, and so are intervals of fewer than two images with lesions.

    Args:
        maps: anomaly maps (N, H, W).
        items: N items; those with neither ``boxes`` nor ``mask`` are skipped.
        sizes: N pairs, width and height of each image's file.
        threshold: of a map's pixel, from validation normals.
        tolerance: of the pointing game, in pixels of the map.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``truth`` (``"masks"``, ``"boxes"`` or None), ``n_images``, ``n_abnormal`` (images with lesions), ``n_regions``
        (lesions), ``abnormal_share`` of all pixels (the ``pixel_ap`` of chance); ``pixel_ap``, ``pixel_auc``, ``pro``,
        ``dice``, ``dice_oracle``, ``pointing_game``, each with ``_ci95``; ``threshold``, ``tolerance``; ``hit_rates``,
        a list of ``false_positives`` (per image), ``hit_rate``, ``hit_rate_ci95``.

    >>> maps = np.zeros((2, 8, 8))
    >>> maps[0, 2:4, 2:4] = 1
    >>> items = [{"image": "a.png", "boxes": [[4, 4, 4, 4]]}, {"image": "b.png", "boxes": []}]
    >>> found = localization_metrics(maps, items, [(16, 16), (16, 16)], threshold=0.5)
    >>> found["dice"], found["pointing_game"], found["n_regions"]
    (1.0, 1.0, 1)
    """
    maps = np.asarray(on_host(maps))
    annotated, regions, truth = read_regions(items, sizes, *maps.shape[1:])
    maps = maps[annotated]
    values = _exact_values(maps, regions, threshold, tolerance)
    intervals: dict[str, list[float] | None] = dict.fromkeys(values)
    if regions.has_lesion.sum() > 1:
        weights = np.concatenate([np.ones((1, len(annotated))), draw_weights(regions.has_lesion, resamples, seed)])
        drawn = bootstrap_localization(maps, regions, threshold, weights, tolerance)
        intervals = {name: _interval(value, drawn[name]) for name, value in values.items()}
    rates = [
        {"false_positives": rate, "hit_rate": values.pop(name), "hit_rate_ci95": intervals.pop(name)}
        for rate, name in ((rate, f"hit_rate_{rate:g}") for rate in FALSE_POSITIVES)
    ]
    return {
        "truth": truth,
        "n_images": len(annotated),
        "n_abnormal": int(regions.has_lesion.sum()),
        "n_regions": len(regions.image),
        "abnormal_share": float(regions.masks.mean()) if annotated else None,
        **{key: part for name in values for key, part in ((name, values[name]), (f"{name}_ci95", intervals[name]))},
        "threshold": threshold,
        "tolerance": tolerance,
        "hit_rates": rates,
    }


def _exact_values(maps: Array, regions: Regions, threshold: float, tolerance: float) -> dict[str, float | None]:
    hits = hit_rates(maps, regions, threshold)
    return {
        **pixel_metrics(maps, regions),
        "dice": dice(maps, regions, threshold),
        "pointing_game": pointing_game(maps, regions, tolerance),
        **{f"hit_rate_{rate:g}": hit for rate, hit in zip(FALSE_POSITIVES, hits, strict=True)},
    }


def _interval(value: float | None, drawn: Array) -> list[float] | None:
    """The 95 % interval of resamples, of which the first is the images themselves: it measures the error of binning."""
    if value is None:
        return None
    low, high = np.quantile(drawn[1:] - drawn[0] + value, (0.025, 0.975))
    return [float(max(low, 0)), float(min(high, 1))]


def draw_weights(has_lesion: Array, count: int, seed: int = 0) -> Array:
    """How often each of N images is drawn in each of ``count`` resamples (count, N), those with lesions apart."""
    draw = np.random.default_rng(seed)
    weights = np.zeros((count, len(has_lesion)))
    for group in (np.flatnonzero(has_lesion), np.flatnonzero(~has_lesion)):
        if len(group):
            weights[:, group] = draw.multinomial(len(group), np.full(len(group), 1 / len(group)), size=count)
    return weights


def bootstrap_localization(
    maps: ArrayLike, regions: Regions, threshold: float, weights: Array, tolerance: float = 0.0
) -> dict[str, Array]:
    """All metrics (R,) of images weighted by each row of `draw_weights` (R, N), of binned values.

    One set of weights for several kinds of maps of the same images gives paired differences.
    """
    values, n = regions.values(maps), regions.shape[0]
    size, inside = values.size // n, regions.masks.ravel()
    edges = _edges(values[inside], values)
    where = np.searchsorted(edges, values, side="right").astype(np.int32) + np.repeat(
        np.arange(n, dtype=np.int32) * BINS, size
    )
    abnormal, overlap = _tally(where[inside], n), _tally(where[inside], n, regions.shares[inside])
    normal = _tally(where, n) - abnormal
    found = pixel_curves(*(_from_the_top(weights @ part) for part in (abnormal, normal, overlap)))
    above, per_image = values > threshold, (n, size)
    both = (above & inside).reshape(per_image).sum(1)
    either = above.reshape(per_image).sum(1) + inside.reshape(per_image).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found["dice"] = 2 * (weights @ both) / (weights @ either)
        hit = points_within(values, regions, tolerance) * regions.has_lesion
        found["pointing_game"] = weights @ hit / (weights @ regions.has_lesion)
    return found | _resampled_hits(values, regions, threshold, weights)


def _edges(inside: Array, values: Array) -> Array:
    """Edges of `BINS` bins, as many by the quantiles of pixels in lesions as by those of all."""
    sample = values[:: 2 * (len(values) // 200_000) + 1]  # an odd step visits all columns
    parts = [np.quantile(part, np.linspace(0, 1, BINS // 2)[1:]) for part in (inside, sample) if len(part)]
    return np.sort(np.concatenate([np.zeros(0), *parts])).astype(values.dtype)  # no pixel above the threshold: none


def _tally(where: Array, n: int, shares: Array | None = None) -> Array:
    """How much (N, BINS) of each image falls into each bin."""
    return np.bincount(where, shares, minlength=n * BINS).reshape(n, BINS).astype(float)


def _resampled_hits(values: Array, regions: Regions, threshold: float, weights: Array) -> dict[str, Array]:
    n = regions.shape[0]
    found, false, image = candidates(values, regions, threshold)
    hit = np.isfinite(found)
    edges = _edges(found[hit], np.concatenate([found[hit], false]))
    hits = _tally(regions.image[hit] * BINS + np.searchsorted(edges, found[hit], side="right"), n)
    wrong = _tally(image * BINS + np.searchsorted(edges, false, side="right"), n)
    lesions = np.bincount(regions.image, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = _from_the_top(weights @ hits) / (weights @ lesions)[:, None]
        rate = _from_the_top(weights @ wrong) / weights.sum(1, keepdims=True)
    return {f"hit_rate_{wanted:g}": best_at_rate(share, rate, wanted) for wanted in FALSE_POSITIVES}


def _from_the_top(counts: Array) -> Array:
    return np.asarray(counts[:, ::-1].cumsum(1))
