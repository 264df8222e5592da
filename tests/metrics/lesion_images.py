"""Small masks of lesions, and maps that show them more or less."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def lesions(count=20, size=24, seed=0):
    """Masks of blobs, in every second image, and maps of noise that are somewhat higher within them."""
    draw = np.random.default_rng(seed)
    blobs = gaussian_filter(draw.standard_normal((count, size, size)), (0, 2, 2))
    masks = (blobs > 0.25) & (np.arange(count) % 2 == 1)[:, None, None]
    maps = gaussian_filter(draw.random((count, size, size)), (0, 1, 1)) + 0.15 * masks
    return maps.astype(np.float32), masks


def square(count=4, size=16, inside=((0, 2, 3, 5, 4),)):
    masks = np.zeros((count, size, size), dtype=bool)
    for image, x, y, w, h in inside:
        masks[image, y : y + h, x : x + w] = True
    return masks


def save_mask(path, mask, mode="L", value=255):
    Image.fromarray((mask * value).astype(np.uint16 if mode == "I;16" else np.uint8)).convert(mode).save(path)
    return str(path)
