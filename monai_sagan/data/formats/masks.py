"""Masks of lesions in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sagan.data.formats.orientation import read_orientation, turn_picture
from monai_sagan.errors import SaganError

__all__: list[str] = []


def read_mask(item: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the mask of an item, as a viewer shows it, is visible and nonzero: bool (height, width).

    Raises:
        SaganError: when the mask is unreadable or not of the ``size`` (width, height) of its image.
    """
    # Not by `read_image`, which stretches 16 bits to 8: a mask's 1 beside a 60000 would become 0.
    try:
        with open(item["mask"], "rb") as file, Image.open(file) as image:
            pixels: NDArray[Any] = np.asarray(turn_picture(image, read_orientation(image, file)))
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
