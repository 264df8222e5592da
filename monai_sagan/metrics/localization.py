"""Whether anomaly maps (N, H, W) are high where the lesions are, which boxes or masks show.

Intervals are percentiles of a bootstrap over images, those with lesions and those without drawn apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.data.datalist import Item
from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import on_host

__all__ = [
    "Regions",
    "bootstrap_localization",
    "dice",
    "draw_weights",
    "hit_rates",
    "localization_metrics",
    "pixel_metrics",
    "pixel_threshold",
    "pointing_game",
    "read_regions",
    "regions_of_boxes",
    "regions_of_masks",
]

Array = NDArray[Any]
Size = tuple[int, int]

FALSE_POSITIVES = (0.5, 1.0, 2.0)  # an image, at which hit rates are stated
MAX_FPR = 0.3  # of the per-region overlap, as in MVTec AD
BINS = 512  # of values when resampling; the values themselves are exact
CORNERS = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # pixels of one image touch, images do not


@dataclass(frozen=True)
class Regions:
    """The lesions of N images, each a set of pixels; they may overlap, and every one has a pixel.

    The arrays are indices from 0, int32 or int64; ``pixels`` and ``lesion`` go together.

    Args:
        shape: (N, H, W) of the maps.
        pixels: flat indices into the maps, lesion after lesion (P,).
        lesion: to which lesion each of them belongs (P,), from 0.
        image: in which image each lesion is (R,).
    """

    shape: tuple[int, int, int]
    pixels: Array
    lesion: Array
    image: Array

    @property
    def masks(self) -> Array:
        """Where lesions are, bool (N, H, W)."""
        masks = np.zeros(self.shape, dtype=bool)
        masks.flat[self.pixels] = True
        return masks

    @property
    def ill(self) -> Array:
        """Which images have a lesion, bool (N,)."""
        return np.bincount(self.image, minlength=self.shape[0]) > 0


def regions_of_masks(masks: ArrayLike) -> Regions:
    """The connected parts of masks (N, H, W), nonzero in lesions; pixels that share a corner are connected."""
    from scipy.ndimage import label

    masks = np.asarray(on_host(masks))
    labels, _ = label(masks, CORNERS)
    pixels = np.flatnonzero(labels)
    lesion = labels.flat[pixels] - 1
    order = np.argsort(lesion, kind="stable")
    pixels, lesion = pixels[order], lesion[order]
    first = np.flatnonzero(np.diff(lesion, prepend=-1))
    return Regions(masks.shape, pixels, lesion, pixels[first] // max(masks[:1].size, 1))


def regions_of_boxes(boxes: Sequence[Sequence[Sequence[float]]], height: int, width: int) -> Regions:
    """The pixels whose centers lie in the boxes [x, y, width, height] of each image, in the map's pixels.

    A box without a pixel's center gets the pixel that its own center is in.
    """
    pixels, images = [], []
    for image, (x, y, w, h) in ((i, box) for i, found in enumerate(boxes) for box in found):
        rows, cols = _covered(y, h, height), _covered(x, w, width)
        pixels.append(((image * height + rows[:, None]) * width + cols).ravel())
        images.append(image)
    lesion = np.repeat(np.arange(len(pixels)), [len(part) for part in pixels]).astype(int)
    joined = np.concatenate(pixels) if pixels else np.zeros(0, dtype=int)
    return Regions((len(boxes), height, width), joined, lesion, np.array(images, dtype=int))


def _covered(start: float, length: float, count: int) -> Array:
    first, last = np.ceil(start - 0.5), np.ceil(start + length - 0.5)
    if last <= first:
        first = last = np.floor(start + length / 2)
    first = min(max(int(first), 0), count - 1)
    return np.arange(first, max(min(int(last), count), first + 1))


def read_regions(
    items: Sequence[Item], sizes: Sequence[Size], height: int, width: int
) -> tuple[list[int], Regions, str | None]:
    """The lesions of the items that tell of theirs, scaled to maps of ``height`` and ``width``.

    Masks count where every image with a lesion has one. Else boxes count, and a mask stands for the boxes around its
    connected parts. A pixel of the map counts that a mask covers by half; where it covers none by half, those that it
    covers most.

    Args:
        items: their ``boxes`` ([] where there are known to be none) and ``mask``; those with neither are left out.
        sizes: width and height of each image's file.
        height: H of the maps.
        width: W of the maps.

    Returns:
        which items count, their lesions, and ``"masks"``, ``"boxes"`` or None if no item has either.

    Raises:
        SaganError: naming an image with a box outside of it or without area, or a mask that is unreadable or of
            another size.
    """
    told = [i for i, item in enumerate(items) if item.get("mask") or item.get("boxes") is not None]
    boxes = [_boxes(items[i], sizes[i]) for i in told]
    masks = [read_mask(items[i], sizes[i]) if items[i].get("mask") else None for i in told]
    if all(mask is not None or not found for mask, found in zip(masks, boxes, strict=True)) and told:
        empty = np.zeros((height, width), dtype=bool)
        shrunk = [empty if mask is None else _shrink(mask, height, width) for mask in masks]
        if any(mask is not None for mask in masks):
            return told, regions_of_masks(np.stack(shrunk)), "masks"
    scaled = []
    for i, found, mask in zip(told, boxes, masks, strict=True):
        across, down = width / sizes[i][0], height / sizes[i][1]
        shown = found if found or mask is None else _boxes_around(mask)
        scaled.append([[x * across, y * down, w * across, h * down] for x, y, w, h in shown])
    return told, regions_of_boxes(scaled, height, width), "boxes" if told else None


def _boxes(item: Item, size: Size) -> list[list[float]]:
    """An item's boxes within its image."""
    clipped = []
    for box in item.get("boxes") or []:
        try:
            x, y, w, h = (float(value) for value in box)
        except (TypeError, ValueError):
            raise SaganError(f"{item['image']} has the box {box!r}; a box is [x, y, width, height] in pixels") from None
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size[0]), min(y + h, size[1])
        if not (w > 0 and h > 0 and left < right and top < bottom):
            raise SaganError(
                f"{item['image']} is {size[0]} x {size[1]} pixels and its box {list(box)} has no area within it; "
                f"a box is [x, y, width, height] in pixels of the image file"
            )
        clipped.append([left, top, right - left, bottom - top])
    return clipped


def read_mask(item: Item, size: Size) -> Array:
    """Where the mask, as a viewer shows it, is visible and not 0 in any of its colors, bool (height, width)."""
    from PIL import Image

    from monai_sagan.data.orientation import orientation_of, turned

    # Not by `read_image`, which stretches 16 bits to 8: a mask's 1 beside a 60000 would become 0.
    try:
        with open(item["mask"], "rb") as file, Image.open(file) as image:
            pixels: Array = np.asarray(turned(image, orientation_of(image, file)))
            if image.mode in ("LA", "RGBA"):
                pixels = pixels[..., :-1] * (pixels[..., -1:] > 0)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise SaganError(f"{item['mask']} is not a readable mask ({reason}); replace it or leave it out") from None
    if pixels.shape[:2] != (size[1], size[0]):
        raise SaganError(
            f"the mask {item['mask']} is {pixels.shape[1]} x {pixels.shape[0]} pixels and its image {item['image']} "
            f"{size[0]} x {size[1]}; give it the image's own size"
        )
    return np.asarray(pixels.reshape(size[1], size[0], -1).any(-1))


def _boxes_around(mask: Array) -> list[list[float]]:
    from scipy.ndimage import find_objects, label

    parts = find_objects(label(mask, CORNERS[1])[0])
    return [[float(v) for v in (x.start, y.start, x.stop - x.start, y.stop - y.start)] for y, x in parts]


def _shrink(mask: Array, height: int, width: int) -> Array:
    from PIL import Image

    covers = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX))
    return np.asarray((covers >= min(0.5, covers.max())) & (covers > 0))


def pixel_threshold(valid_normal_maps: ArrayLike, quantile: float = 0.99) -> float:
    """The threshold that a share ``quantile`` of the pixels of validation normals' maps do not exceed.

    Args:
        valid_normal_maps: (N, H, W) in [0, 1].
        quantile: from 0 to 1.

    Raises:
        SaganError: when there are none.
    """
    pixels = np.asarray(on_host(valid_normal_maps)).ravel()
    if not pixels.size:
        raise SaganError("a threshold of anomaly maps needs validation normals, and there are none")
    return float(np.quantile(pixels, quantile))


def pixel_metrics(maps: ArrayLike, regions: Regions) -> dict[str, float | None]:
    """Every pixel of every image ranked by its map's value; None without pixels in lesions or without others.

    ``pixel_ap`` and ``pixel_auc`` are average precision and area under the ROC curve. ``dice_oracle`` is the best
    Dice coefficient over all thresholds, which nobody knows beforehand. ``pro`` is the per-region overlap: the share
    of a lesion above a threshold, averaged over lesions so that small ones count as much as large ones, and over the
    false positive rates of pixels up to 0.3; 1 is perfect (Bergmann et al. 2021,
    https://doi.org/10.1007/s11263-020-01400-4).

    Args:
        maps: (N, H, W), higher is more abnormal.
        regions: the lesions of these images.
    """
    values, inside = _checked(maps, regions), regions.masks.ravel()
    order = np.argsort(-values[inside], kind="stable")
    lesion, overlap = values[inside][order], _shares(regions)[inside][order].cumsum()
    last = np.flatnonzero(np.append(lesion[1:] != lesion[:-1], True)[: len(lesion)])  # equal values share a threshold
    found = np.stack([last + 1.0, overlap[last]])
    # The curves turn at the values of lesions alone: once just above each, once at it, and at last below all values.
    before, total = np.pad(found, ((0, 0), (1, 0))), np.array([[len(lesion)], [len(regions.image)]])
    abnormal, covered = np.append(np.stack([before[:, :-1], found], axis=2).reshape(2, -1), total, axis=1)
    every = np.sort(values)
    ranks = [np.searchsorted(every, lesion[last], side=side) for side in ("right", "left")]
    above = np.append(len(every) - np.stack(ranks, axis=1).ravel(), len(every))
    curves = _pixel_curves(abnormal[None], (above - abnormal)[None], covered[None])
    return {name: _number(value[0]) for name, value in curves.items()}


def _checked(maps: ArrayLike, regions: Regions) -> Array:
    values = np.asarray(on_host(maps), dtype=np.float32)
    if values.shape != regions.shape:
        raise ValueError(f"the maps have shape {values.shape} and the regions {regions.shape}; they must agree")
    if not np.isfinite(values).all():
        raise SaganError("an anomaly map has NaN or infinite pixels; the model is broken, train it anew")
    return values.ravel()


def _shares(regions: Regions) -> Array:
    """What each pixel (N * H * W) is of its lesions: 1 over their area; a lesion's shares add up to 1."""
    area = np.bincount(regions.lesion, minlength=len(regions.image))
    return np.bincount(regions.pixels, 1 / area[regions.lesion], minlength=int(np.prod(regions.shape)))


def _pixel_curves(abnormal: Array, normal: Array, overlap: Array) -> dict[str, Array]:
    """The metrics (R,) of R rows of counts (R, T) of what lies above each of T thresholds, the highest first."""
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


def dice(maps: ArrayLike, regions: Regions, threshold: float) -> float | None:
    """The Dice coefficient of all pixels above ``threshold`` with all pixels in lesions; None without lesions.

    The threshold must come from elsewhere, as `pixel_threshold` of validation normals does.

    Args:
        maps: (N, H, W), higher is more abnormal.
        regions: the lesions of these images.
        threshold: of a pixel's value.
    """
    above = _checked(maps, regions) > threshold
    inside = regions.masks.ravel()
    return _number(2 * (above & inside).sum() / (above.sum() + inside.sum())) if inside.any() else None


def pointing_game(maps: ArrayLike, regions: Regions, tolerance: float = 0.0) -> float | None:
    """The share of images with lesions whose map is highest within one; None without such images.

    Zhang et al. 2018, https://doi.org/10.1007/s11263-017-1059-x, who allow a tolerance of 15 pixels. Where several
    pixels are highest, the share of them within counts.

    Args:
        maps: (N, H, W).
        regions: of the same shape.
        tolerance: distance from a lesion, in pixels of the map, that still counts.
    """
    if not regions.ill.any():
        return None
    return float(_points(_checked(maps, regions), regions, tolerance)[regions.ill].mean())


def _points(values: Array, regions: Regions, tolerance: float) -> Array:
    """The share (N,) of each map's highest pixels that lie in a lesion or as close as ``tolerance``."""
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
    """The share of lesions that are hit at each of ``rates`` false positives an image: points of the FROC curve.

    A candidate is a connected part of a map above ``threshold``; its place and its score are those of its highest
    pixel. It hits the lesions that it is placed in, and is a false positive in none; a second candidate in a lesion is
    neither: the rules of the challenges CAMELYON16 (https://doi.org/10.1001/jama.2017.14585) and LUNA16
    (https://doi.org/10.1016/j.media.2017.06.015). All images count, with lesions and without. Only candidates of at
    least some score are kept, as few as the rate demands. None without lesions.

    Args:
        maps: (N, H, W), higher is more abnormal.
        regions: the lesions of these images.
        threshold: of a pixel's value, for candidates.
        rates: of false positives an image.
    """
    if not len(regions.image):
        return [None] * len(rates)
    found, false, _ = _candidates(_checked(maps, regions), regions, threshold)
    levels = np.unique(np.concatenate([found[np.isfinite(found)], false]))
    hit, wrong = _above(found, levels)[None] / len(regions.image), _above(false, levels)[None] / regions.shape[0]
    return [float(_at_rate(hit, wrong, rate)[0]) for rate in rates]


def _candidates(values: Array, regions: Regions, threshold: float) -> tuple[Array, Array, Array]:
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


def _at_rate(hit: Array, wrong: Array, rate: float) -> Array:
    """The greatest of hit rates (R, T) whose false positives an image (R, T) are at most ``rate``."""
    return np.asarray(np.where(wrong <= rate, hit, 0).max(1, initial=0))


def draw_weights(ill: Array, count: int, seed: int = 0) -> Array:
    """How often each of N images comes in each of ``count`` resamples (count, N), those of ``ill`` (N,) drawn apart.

    Args:
        ill: which images have a lesion, bool (N,).
        count: of resamples.
        seed: of the draw.
    """
    draw = np.random.default_rng(seed)
    weights = np.zeros((count, len(ill)))
    for group in (np.flatnonzero(ill), np.flatnonzero(~ill)):
        if len(group):
            weights[:, group] = draw.multinomial(len(group), np.full(len(group), 1 / len(group)), size=count)
    return weights


def bootstrap_localization(
    maps: ArrayLike, regions: Regions, threshold: float, weights: Array, tolerance: float = 0.0
) -> dict[str, Array]:
    """All metrics (R,) of images weighted by each row of ``weights`` (R, N), of values in bins.

    One set of weights serves several kinds of maps of the same images: their differences are paired then.

    Args:
        maps: (N, H, W), higher is more abnormal.
        regions: the lesions of these images.
        threshold: of a pixel's value, for `dice` and `hit_rates`.
        weights: how often each image counts in each of R resamples, see `draw_weights`.
        tolerance: of the pointing game, in pixels of the map.
    """
    values, n = _checked(maps, regions), regions.shape[0]
    size, inside, ill = values.size // n, regions.masks.ravel(), regions.ill
    edges = _edges(values[inside], values)
    where = np.searchsorted(edges, values, side="right").astype(np.int32) + np.repeat(
        np.arange(n, dtype=np.int32) * BINS, size
    )
    abnormal, overlap = _tally(where[inside], n), _tally(where[inside], n, _shares(regions)[inside])
    normal = _tally(where, n) - abnormal
    found = _pixel_curves(*(_from_the_top(weights @ part) for part in (abnormal, normal, overlap)))
    above, per_image = values > threshold, (n, size)
    both = (above & inside).reshape(per_image).sum(1)
    either = above.reshape(per_image).sum(1) + inside.reshape(per_image).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found["dice"] = 2 * (weights @ both) / (weights @ either)
        found["pointing_game"] = weights @ (_points(values, regions, tolerance) * ill) / (weights @ ill)
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
    found, false, image = _candidates(values, regions, threshold)
    hit = np.isfinite(found)
    edges = _edges(found[hit], np.concatenate([found[hit], false]))
    hits = _tally(regions.image[hit] * BINS + np.searchsorted(edges, found[hit], side="right"), n)
    wrong = _tally(image * BINS + np.searchsorted(edges, false, side="right"), n)
    lesions = np.bincount(regions.image, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = _from_the_top(weights @ hits) / (weights @ lesions)[:, None]
        rate = _from_the_top(weights @ wrong) / weights.sum(1, keepdims=True)
    return {f"hit_rate_{wanted:g}": _at_rate(share, rate, wanted) for wanted in FALSE_POSITIVES}


def _from_the_top(counts: Array) -> Array:
    return np.asarray(counts[:, ::-1].cumsum(1))


def localization_metrics(
    maps: ArrayLike,
    items: Sequence[Item],
    sizes: Sequence[Size],
    threshold: float,
    tolerance: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """What `pixel_metrics`, `dice`, `pointing_game` and `hit_rates` find, each with its 95 % interval, as plain values.

    Undefined values are None, and so are intervals of fewer than two images with lesions.

    Args:
        maps: anomaly maps (N, H, W).
        items: N items; those with neither ``boxes`` nor ``mask`` are left out, see `read_regions`.
        sizes: N pairs, width and height of each image's file.
        threshold: of the maps, from `pixel_threshold`.
        tolerance: of the pointing game, in pixels of the map.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        ``truth`` (``"masks"``, ``"boxes"`` or None), ``n_images``, ``n_abnormal`` (images with lesions), ``n_regions``
        (lesions), ``abnormal_share`` of all pixels (the ``pixel_ap`` of chance); ``pixel_ap``, ``pixel_auc``, ``pro``,
        ``dice``, ``dice_oracle``, ``pointing_game``, each with ``_ci95``; ``threshold``, ``tolerance``; ``hit_rates``,
        a list of ``false_positives`` (an image), ``hit_rate``, ``hit_rate_ci95``.

    Raises:
        SaganError: see `read_regions`; or when a map has NaN or infinite pixels.
    """
    maps = np.asarray(on_host(maps))
    told, regions, truth = read_regions(items, sizes, *maps.shape[1:])
    maps = maps[told]
    values = {
        **pixel_metrics(maps, regions),
        "dice": dice(maps, regions, threshold),
        "pointing_game": pointing_game(maps, regions, tolerance),
    }
    hits = hit_rates(maps, regions, threshold)
    values |= {f"hit_rate_{rate:g}": hit for rate, hit in zip(FALSE_POSITIVES, hits, strict=True)}
    intervals: dict[str, list[float] | None] = dict.fromkeys(values)
    if regions.ill.sum() > 1:
        weights = np.concatenate([np.ones((1, len(told))), draw_weights(regions.ill, resamples, seed)])
        drawn = bootstrap_localization(maps, regions, threshold, weights, tolerance)
        intervals = {name: _interval(value, drawn[name]) for name, value in values.items()}
    rates = [
        {"false_positives": rate, "hit_rate": values.pop(name), "hit_rate_ci95": intervals.pop(name)}
        for rate, name in ((rate, f"hit_rate_{rate:g}") for rate in FALSE_POSITIVES)
    ]
    return {
        "truth": truth,
        "n_images": len(told),
        "n_abnormal": int(regions.ill.sum()),
        "n_regions": len(regions.image),
        "abnormal_share": float(regions.masks.mean()) if told else None,
        **{key: part for name in values for key, part in ((name, values[name]), (f"{name}_ci95", intervals[name]))},
        "threshold": threshold,
        "tolerance": tolerance,
        "hit_rates": rates,
    }


def _interval(value: float | None, drawn: Array) -> list[float] | None:
    """The 95 % interval of resamples, of which the first is the images themselves: it tells what the bins cost."""
    if value is None:
        return None
    low, high = np.quantile(drawn[1:] - drawn[0] + value, (0.025, 0.975))
    return [float(max(low, 0)), float(min(high, 1))]
