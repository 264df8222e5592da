"""PNG, JPEG, TIFF, BMP and WebP, through Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401  Image.open looks for named formats among the loaded ones
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from monai_sagan.data.decode import choose_frame
from monai_sagan.data.scaling import check_numbers, stretch

__all__ = ["describe_picture", "open_picture"]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # and no programs, such as PostScript


def open_picture(path: Path) -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """A function from a fragment, a page's index or "", to that page, as Pillow image or uint8, and the format.

    Args:
        path: of a PNG, JPEG, TIFF, BMP or WebP file.

    Raises:
        SaganError: by the function: when there is no such page.
        ValueError: when it is none of these or too large; by the function: when it has NaN or infinite pixels.
    """
    image, frames = _open(io.BytesIO(path.read_bytes()))  # no file is left open
    known = {"format": image.format}

    def picture(fragment: str) -> tuple[Any, dict[str, Any]]:
        index = choose_frame(path, fragment, frames)
        if frames > 1:
            image.seek(index)
        image.load()
        if not _is_deep(image):
            return image.copy(), known
        pixels = np.asarray(image)
        check_numbers(pixels)
        return stretch(pixels), known

    return picture


def describe_picture(path: Path) -> Callable[[str], dict[str, Any]]:
    """A function from a fragment to ``width``, ``height``, ``mode`` and ``format``; nothing is decoded.

    Args:
        path: of a PNG, JPEG, TIFF, BMP or WebP file.

    Raises:
        SaganError: by the function: when there is no such page.
        ValueError: when it is none of these, or of more pixels than Pillow allows.
    """
    with path.open("rb") as file:
        image, frames = _open(file)
    known = {"width": image.width, "height": image.height, "format": image.format}
    known["mode"] = "L" if _is_deep(image) else image.mode

    def describe(fragment: str) -> dict[str, Any]:
        choose_frame(path, fragment, frames)
        return known

    return describe


def _open(file: IO[bytes]) -> tuple[Image.Image, int]:
    """The image, not yet decoded, and how many frames it has."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"its content is neither {', '.join(FORMATS)} nor DICOM") from None
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the {Image.MAX_IMAGE_PIXELS} allowed")
    # An MPO is a camera's JPEG with a preview of itself.
    return image, 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")
