"""PNG, JPEG, TIFF, BMP, WebP, GIF and PNM through Pillow, as a viewer shows them.

A picture is turned as its EXIF or TIFF orientation says, WhiteIsZero is inverted, CMYK, YCbCr and Lab become RGB.
Pixels of more than 8 bits, grey or colored, are scaled linearly from the picture's least to its greatest visible value.
Transparent pixels are then composed on black, so that nothing invisible affects a score.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import (
    Image,
    ImageFile,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  Image.open looks for named formats among the loaded ones
)

from monai_sagan.data.formats.fragments import choose_frame
from monai_sagan.data.formats.orientation import read_orientation, turn_picture
from monai_sagan.data.formats.scaling import Pixels, check_numbers, stretch

__all__: list[str] = []

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # and no programs, such as PostScript
BITS, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
DEEP_COLOR = re.compile(r"(LA|RGBA|RGBa|RGBX|RGB);16([BLN])")  # Pillow's names for how such pixels are stored
FEW_BITS = {"L;2": 85, "L;4": 17}  # what Pillow multiplies such pixels by, and not the one that is transparent


def open_picture(path: Path) -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """Open a picture: a function from a page's index or "" to the page, a Pillow image or uint8, and its description.

    Raises:
        SaganError: by the function: for a missing page.
        ValueError: when the format is none of `FORMATS`, the picture too large, or Pillow would cut its colors to 8
            bits; by the function: when it has NaN or infinite pixels.
    """
    content = io.BytesIO(path.read_bytes())  # no file is left open
    image, frames = _open(content)
    first = _describe(image, content)

    def picture(fragment: str) -> tuple[Any, dict[str, Any]]:
        index = choose_frame(path, fragment, frames)
        if frames > 1:
            image.seek(index)
        known = _describe(image, content) if image.format == "TIFF" else first
        raw, turn = _stored_as(image), read_orientation(image, content)
        image.load()
        if DEEP_COLOR.fullmatch(raw):
            return _deep_color(content, index, raw, turn, image.info.get("transparency")), known
        shown = turn_picture(image, turn)
        return (_deep_grey(shown, image) if _is_deep(image) else _plain(shown, raw)), known

    return picture


def describe_picture(path: Path) -> Callable[[str], dict[str, Any]]:
    """Open a picture's header: a function from a page's index or "" to the description.

    Width and height are those of the picture as it is shown; the mode is the file's, with its alpha channel.

    Raises:
        SaganError: by the function: for a missing page.
        ValueError: as in `open_picture`.
    """
    with path.open("rb") as file:
        image, frames = _open(file)
        known = [_describe(image, file)]
        for index in range(1, frames if image.format == "TIFF" else 1):  # the frames of an animation have one size
            image.seek(index)
            known.append(_describe(image, file))
    return lambda fragment: known[min(choose_frame(path, fragment, frames), len(known) - 1)]


def _open(file: IO[bytes]) -> tuple[ImageFile.ImageFile, int]:
    """The image, not yet decoded, and how many frames it has."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(_unidentified(file)) from None
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than the {Image.MAX_IMAGE_PIXELS} allowed")
    # An MPO is a camera's JPEG with a preview of itself.
    return image, 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _unidentified(file: IO[bytes]) -> str:
    """Why Pillow opens nothing: another format, or a TIFF of pixels that it does not read."""
    file.seek(0)
    with contextlib.suppress(Exception):
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits = " + ".join(map(str, tags[BITS]))
        return f"a TIFF of {bits} bits a pixel of a kind that is not read; save it with 8 or 16 unsigned bits"
    return f"its content is neither {', '.join(FORMATS)} nor DICOM"


def _stored_as(image: ImageFile.ImageFile) -> str:
    """Pillow's name for how the pixels of an image that is not loaded are stored; "" where it has none."""
    args: Any = image.tile[0].args if image.tile else ""
    return str(args if isinstance(args, str) else args[0])


def _describe(image: ImageFile.ImageFile, file: IO[bytes]) -> dict[str, Any]:
    """The description of a frame before it is loaded."""
    raw = _stored_as(image)
    if _is_cut(image, raw):
        raise ValueError("colors of 16 bits in a form that is not read; save it as a PNG, or with 8 bits")
    width, height = image.size if read_orientation(image, file) < 5 else image.size[::-1]
    mode = "L" if _is_deep(image) else "LA" if raw.startswith("LA") else image.mode
    return {"width": width, "height": height, "mode": mode, "format": image.format}


def _is_cut(image: ImageFile.ImageFile, raw: str) -> bool:
    """Whether Pillow gives the upper 8 bits of deep colors alone, stored such that `_deep_color` finds no more."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(BITS, (1,))
        deep = len(bits) > 1 and max(bits) > 8
        return deep and (image.tag_v2.get(PLANAR) == 2 or not DEEP_COLOR.fullmatch(raw))
    if image.format == "PPM":
        arguments: Any = image.tile[0].args
        return image.mode == "RGB" and arguments[-1] not in ("B", *range(256))
    return bool(DEEP_COLOR.fullmatch(raw)) and getattr(image, "n_frames", 1) > 1


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def _plain(image: Image.Image, raw: str) -> Image.Image:
    """A picture of 8 bits a channel, in mode 1, L, P or RGB."""
    if not image.has_transparency_data:
        return image if image.mode in ("1", "L", "P", "RGB") else image.convert("RGB")
    if raw in FEW_BITS:
        image.info["transparency"] *= FEW_BITS[raw]
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    composed = Image.alpha_composite(black, image.convert("RGBA"))
    return composed.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def _deep_grey(image: Image.Image, file: Image.Image) -> Pixels:
    """8 bits (H, W) of grey of more, of a turned ``image`` of a ``file``."""
    values = np.asarray(image)
    tags = file.tag_v2 if isinstance(file, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(BITS) == (32,) and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow has signed ones only
    check_numbers(values)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero
        values = -values.astype(np.float64)
    hidden = image.info.get("transparency")
    return _scaled(values, None if hidden is None else values != hidden)


def _deep_color(content: IO[bytes], index: int, raw: str, turn: int, hidden: tuple[int, ...] | None) -> Pixels:
    """8 bits (H, W) or (H, W, 3) of colors, or of grey with alpha, of 16: Pillow gives 8 of them at a time."""

    def bytes_of(raw: str) -> Pixels:
        image = Image.open(content, formats=FORMATS)
        image.seek(index)
        tiles: list[Any] = image.tile
        image.tile = [
            tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:])) for tile in tiles
        ]
        image.load()
        return np.asarray(turn_picture(image, turn)).astype(np.uint16)

    bands, order = raw.split(";16")
    if bands == "LA":  # as many bytes as four channels of 8 bits
        high, low = np.split(bytes_of("RGBA")[..., [0, 2, 1, 3]], 2, axis=-1)
    else:
        first_is_high = order == "B" or (order == "N" and sys.byteorder == "big")
        high, low = (bytes_of(f"{bands.upper()};16{end}") for end in ("BL" if first_is_high else "LB"))
    values = high << 8 | low
    if bands in ("RGB", "RGBX"):
        return _scaled(values, None if hidden is None else (values != hidden).any(-1))
    colors, opacity = values[..., :-1], values[..., -1:] / 65535
    if bands == "RGBa":  # its colors are stored as if composed on black
        colors = np.minimum(np.rint(colors / np.maximum(opacity, 1e-9)), 65535)
    return _scaled(colors, opacity).squeeze(-1) if bands == "LA" else _scaled(colors, opacity)


def _scaled(values: Pixels, opacity: Pixels | None) -> Pixels:
    """Scale to 8 bits by the visible pixels, then compose on black; opacity (H, W[, 1]), 0 to 1, None for all 1."""
    if opacity is None:
        return stretch(values)
    opacity = opacity.reshape(*values.shape[:2], *[1] * (values.ndim - 2))
    seen = values[np.broadcast_to(opacity > 0, values.shape)]
    if not seen.size:
        return np.zeros(values.shape, np.uint8)
    shown: Pixels = np.rint(stretch(values, float(seen.min()), float(seen.max())) * opacity).astype(np.uint8)
    return shown
