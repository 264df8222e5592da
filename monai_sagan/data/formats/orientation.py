"""Which way up a picture is: what a camera notes beside the pixels, and every viewer follows."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import IO

from PIL import Image

__all__ = ["orientation_of", "turned"]

ORIENTATION = 274  # its tag in EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image, file: IO[bytes]) -> int:
    """How a picture that is opened but not loaded is to be turned: a key of `TURNS`, or 1.

    Args:
        image: of Pillow's; a TIFF is always 1, for Pillow turns it when it loads it.
        file: which it was opened from; a PNG may say it behind its pixels.
    """
    if image.format == "TIFF":
        return 1
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # a broken note does not break the picture
        exif.load(image.info.get("exif") or (_late_exif(file) if image.format == "PNG" else b""))
    turn = exif.get(ORIENTATION, 1)
    return turn if turn in TURNS else 1


def turned(image: Image.Image, turn: int) -> Image.Image:
    """A picture turned as `orientation_of` says, as a copy.

    Args:
        image: of any mode.
        turn: what `orientation_of` returned.
    """
    return image.transpose(TURNS[turn]) if turn in TURNS else image.copy()


def _late_exif(file: IO[bytes]) -> bytes:
    """The chunk eXIf of a PNG, wherever it stands."""
    place = file.tell()
    file.seek(8)
    found = b""
    while not found and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        found = file.read(length) if kind == b"eXIf" else b""
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(place)
    return found
