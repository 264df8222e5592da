"""The range of a model's training images, to flag out-of-distribution inputs; needs NumPy only."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from monai_sagan.data.array_store import in_parts
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.metrics.arrays import on_host

__all__: list[str] = []

RANGES = {
    "mean_brightness": "mean brightness",
    "standard_deviation": "standard deviation of brightness",
    "likeness": "likeness to the mean training image",
}
IMAGE = "mean_image"
CHUNK = 2**20  # pixels at a time


def measure_training_range(images: Any, chunk: int = CHUNK) -> dict[str, Any]:
    """Measure the ranges that training images cover, and their mean; labels are not used.

    ``images`` are uint8 (N, C, H, W) as the network sees them; stored ones are read twice, in parts of ``chunk``
    pixels. The result has ``mean_image``, uint8 (C, H, W); and as [lowest, highest]: ``mean_brightness`` and
    ``standard_deviation`` of an image's pixels, 0 to 255, and ``likeness``, the correlation of its pixels with those of
    the mean image, -1 to 1.

    Raises:
        ValueError: without images.
    """
    if not len(images):
        raise ValueError("no images to measure")
    total = sum(part.sum(0, dtype=np.int64) for part in _chunks(images, chunk))
    mean_image = np.rint(total / len(images)).astype(np.uint8)
    measured = np.concatenate([_measure(part, mean_image) for part in _chunks(images, chunk)])
    ranges = {name: [float(column.min()), float(column.max())] for name, column in zip(RANGES, measured.T, strict=True)}
    return {**ranges, IMAGE: mean_image}


def range_deviations(image: Pixels, training_range: Mapping[str, Any] | None) -> list[str]:
    """Describe each measure of an image, uint8 (C, H, W), that is outside its range.

    A likeness above that of all training images is normal.
    """
    if training_range is None:
        return []
    values = _measure(np.asarray(on_host(image))[None], np.asarray(training_range[IMAGE]))[0]
    lines = []
    for (name, words), value in zip(RANGES.items(), values, strict=True):
        low, high = training_range[name]
        if value < low or (value > high and name != "likeness"):
            form = ".2f" if name == "likeness" else ".1f"
            lines.append(f"{words} {value:{form}} is outside {low:{form}} to {high:{form}} of the training images")
    return lines


def _chunks(images: Any, chunk: int) -> Iterator[Pixels]:
    return (np.asarray(on_host(images[part])) for part in in_parts(len(images), images.shape, chunk))


def _measure(pixels: Pixels, mean_image: Pixels) -> Pixels:
    """The measures of images (N, C, H, W), in the order of `RANGES`: (N, 3) in float64."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    mean, deviation = flat.mean(1), flat.std(1)
    reference = mean_image.astype(np.float64).ravel()
    reference -= reference.mean()
    product = deviation * np.sqrt((reference**2).mean())
    covariance = (flat - mean[:, None]) @ reference / flat.shape[1]
    likeness = np.divide(covariance, product, out=np.zeros_like(product), where=product > 0)
    return np.stack([mean, deviation, likeness], axis=1)


def training_range_as_json(training_range: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Convert the result of `measure_training_range` for JSON, with the image as its shape and base64."""
    if training_range is None:
        return None
    image = np.ascontiguousarray(np.asarray(training_range[IMAGE], dtype=np.uint8))
    coded = {"shape": list(image.shape), "base64": base64.b64encode(image.tobytes()).decode("ascii")}
    return {**{name: [float(end) for end in training_range[name]] for name in RANGES}, IMAGE: coded}


def training_range_from_json(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Undo `training_range_as_json`.

    Raises:
        ValueError, KeyError, TypeError: for malformed values.
    """
    if values is None:
        return None
    coded = values[IMAGE]
    try:
        data = base64.b64decode(coded["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"{IMAGE} is not base64: {error}") from None
    image = np.frombuffer(data, np.uint8).reshape(coded["shape"])
    return {**{name: [float(low), float(high)] for name in RANGES for low, high in [values[name]]}, IMAGE: image}
