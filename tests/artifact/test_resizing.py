"""The graph's resizing is Pillow's, bit for bit."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from monai_sagan.artifact.resizing import resize_like_pillow

SIZES = [
    *((64, 64), (63, 65), (128, 128), (129, 127), (1, 1), (1, 50), (50, 2), (40, 300), (31, 33)),
    *((300, 280), (257, 511), (600, 599), (1000, 997), (64, 96), (96, 64), (200, 10), (700, 90), (333, 170)),
]


def by_pillow(image, height, width):
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


@pytest.mark.parametrize("target", [(64, 64), (96, 64), (64, 128)])
def test_equal_to_pillow(target):
    draw = np.random.default_rng(0)
    for height, width in SIZES:
        if height > target[0] and height - target[0] > 2 * (width - target[1]) and PIL.__version__ < "13":
            continue  # older ones begin with the rows even there
        noise = draw.integers(0, 256, (2, height, width), np.uint8)
        image = np.concatenate([noise, 255 * (noise[:1] > 127).astype(np.uint8)])
        resized = resize_like_pillow(torch.from_numpy(image)[:, None], *target)[:, 0]
        assert np.array_equal(resized.numpy(), by_pillow(image, *target)), (height, width)


def test_channels_and_batch():
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 90, 70), np.uint8)
    resized = resize_like_pillow(torch.from_numpy(image).int(), 64, 72)
    assert resized.shape == (2, 3, 64, 72)
    for found, given in zip(resized, image, strict=True):
        colors = Image.fromarray(np.moveaxis(given, 0, -1)).resize((72, 64), Image.Resampling.BILINEAR)
        assert np.array_equal(found.numpy(), np.moveaxis(np.asarray(colors), -1, 0))
