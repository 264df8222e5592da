"""The generated images of the self-test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from monai_sagan.artifact.self_test import Case
from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.formats.scaling import Pixels, stretch
from monai_sagan.data.formats.tasks import HowToDecode, fit_image
from monai_sagan.metrics import conformal_p_values
from monai_sagan.models.trained import Trained


def make_cases(trained: Trained) -> list[Case]:
    """16 images, 8 and 16 bits, with the model's scores: phantoms, noise, ramps and a constant one.

    Their sizes are the network's, larger odd ones and smaller ones. None loses more than twice as much height as
    width: Pillow before version 13 resizes such images in another order than later ones.
    """
    import torch

    size, channels = trained.settings.image_size, trained.settings.in_channels
    cases = []
    for image, bits in _inputs(*size):
        planes = np.stack([image, image[:, ::-1], image.max() - image][:channels])
        seen = torch.from_numpy(_as_in_training(planes, bits, trained.settings.decoding())[None])
        score = trained.score(seen)[0]
        p_value = conformal_p_values(trained.valid_normal_scores.numpy(), score.numpy())
        cases.append(Case(planes, bits, float(score), float(p_value[0])))
    return cases


def _as_in_training(planes: Pixels, bits: int, how: HowToDecode) -> Pixels:
    """An image (C, H, W) as a reader and the cache decode it: uint8 (C, h, w)."""
    planes = stretch(planes) if bits == 16 else planes
    picture = planes[0] if len(planes) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return np.array(fit_image(Image.fromarray(picture), how))


def _inputs(height: int, width: int) -> Iterator[tuple[Pixels, int]]:
    """Images (H, W), uint8 or uint16, with their bits, the most telling first."""
    draw = np.random.default_rng(0)
    larger, smaller = (height + 37, width + 61), (height // 2 + 1, width // 2 - 3)
    yield _phantom(0, larger), 8
    yield (draw.integers(0, 4096, (height, width)).astype(np.uint16)), 16
    yield _ramp(smaller, 0, 255).astype(np.uint8), 8
    for index, shape in enumerate(((height, width), (height + 1, 2 * width + 1), smaller, (height, width)), 1):
        yield _phantom(index, shape), 8
    for index, shape in enumerate((larger, smaller), 5):
        yield _phantom(index, shape) * np.uint16(16) + np.uint16(100), 16
    yield draw.integers(0, 256, (height, width), np.uint8), 8
    yield draw.integers(0, 256, larger, np.uint8), 8
    yield draw.integers(96, 160, smaller, np.uint8), 8
    yield _ramp((width, height), 255, 0).T.astype(np.uint8), 8
    yield _ramp(larger, 0, 65535).astype(np.uint16), 16
    yield np.full((height + 5, width + 5), 128, np.uint8), 8
    yield np.kron(draw.integers(0, 2, (4, 4)), np.full((height // 4, width // 4), 200)).astype(np.uint8), 8


def _phantom(index: int, shape: tuple[int, int]) -> Pixels:
    """A generated chest image, cut to its shape; every other one is abnormal."""
    image, _ = phantom_image(0, index, index % 2 == 1, max(shape))
    return image[: shape[0], : shape[1]]


def _ramp(shape: tuple[int, int], first: int, last: int) -> Pixels:
    """A gradient from left to right, and a slight one from top to bottom."""
    rows = np.linspace(0.8, 1, shape[0])[:, None]
    return rows * np.linspace(first, last, shape[1])
