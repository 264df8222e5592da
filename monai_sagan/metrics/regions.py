"""Lesions of images, from boxes or masks, as pixels of anomaly maps (N, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_sagan.data.formats.masks import read_mask
from monai_sagan.errors import SaganError
from monai_sagan.metrics.arrays import on_host

if TYPE_CHECKING:
    from monai_sagan.data.datasets.items import Item

Array = NDArray[Any]
Size = tuple[int, int]

CORNERS = np.array([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])  # pixels of one image touch, images do not


@dataclass(frozen=True)
class Regions:
    """The lesions of N images, each a set of one or more pixels; they may overlap."""

    shape: tuple[int, int, int]  # (N, H, W) of the maps
    pixels: Array  # flat indices into the maps, lesion after lesion (P,)
    lesion: Array  # to which lesion each of them belongs (P,), from 0
    image: Array  # in which image each lesion is (R,)

    @property
    def masks(self) -> Array:
        """Where lesions are, bool (N, H, W)."""
        masks = np.zeros(self.shape, dtype=bool)
        masks.flat[self.pixels] = True
        return masks

    @property
    def has_lesion(self) -> Array:
        """Which images have a lesion, bool (N,)."""
        return np.bincount(self.image, minlength=self.shape[0]) > 0

    @property
    def shares(self) -> Array:
        """Each pixel's share of its lesions (N * H * W,), 1 over their area: a lesion's shares add up to 1."""
        area = np.bincount(self.lesion, minlength=len(self.image))
        return np.bincount(self.pixels, 1 / area[self.lesion], minlength=int(np.prod(self.shape)))

    def values(self, maps: ArrayLike) -> Array:
        """The pixels of anomaly maps of these images, float32 (N * H * W,)."""
        values = np.asarray(on_host(maps), dtype=np.float32)
        if values.shape != self.shape:
            raise ValueError(f"the maps have shape {values.shape} and the regions {self.shape}; they must agree")
        if not np.isfinite(values).all():
            raise SaganError("an anomaly map has NaN or infinite pixels; the model is broken, train it again")
        return values.ravel()


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
    """Which items are annotated, their lesions in maps of ``height`` and ``width``, and ``"masks"`` or ``"boxes"``.

    An item is annotated by its ``mask`` or ``boxes`` ([] where there are known to be none), in pixels of the file, of
    which ``sizes`` has width and height.

    Masks count where every image with a lesion has one. Else boxes count, and a mask stands for the boxes around its
    connected parts. A pixel of the map counts that a mask covers by half; where it covers none by half, those that it
    covers most.
    """
    annotated = [i for i, item in enumerate(items) if item.get("mask") or item.get("boxes") is not None]
    boxes = [_boxes(items[i], sizes[i]) for i in annotated]
    masks = [read_mask(items[i], sizes[i]) if items[i].get("mask") else None for i in annotated]
    if all(mask is not None or not found for mask, found in zip(masks, boxes, strict=True)) and annotated:
        empty = np.zeros((height, width), dtype=bool)
        shrunk = [empty if mask is None else _shrink(mask, height, width) for mask in masks]
        if any(mask is not None for mask in masks):
            return annotated, regions_of_masks(np.stack(shrunk)), "masks"
    scaled = []
    for i, found, mask in zip(annotated, boxes, masks, strict=True):
        across, down = width / sizes[i][0], height / sizes[i][1]
        shown = found if found or mask is None else _boxes_around(mask)
        scaled.append([[x * across, y * down, w * across, h * down] for x, y, w, h in shown])
    return annotated, regions_of_boxes(scaled, height, width), "boxes" if annotated else None


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


def _boxes_around(mask: Array) -> list[list[float]]:
    from scipy.ndimage import find_objects, label

    parts = find_objects(label(mask, CORNERS[1])[0])
    return [[float(v) for v in (x.start, y.start, x.stop - x.start, y.stop - y.start)] for y, x in parts]


def _shrink(mask: Array, height: int, width: int) -> Array:
    from PIL import Image

    covers = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX))
    return np.asarray((covers >= min(0.5, covers.max())) & (covers > 0))
