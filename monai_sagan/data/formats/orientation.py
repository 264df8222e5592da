"""The orientation that a camera notes beside the pixels, and that every viewer follows."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import IO

from PIL import Image

__all__: list[str] = []

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


def read_orientation(image: Image.Image, file: IO[bytes]) -> int:
    """The EXIF orientation of an image that is not loaded, a key of `TURNS`; 1 of a TIFF: Pillow turns it."""
    if image.format == "TIFF":
        return 1
    exif = Image.Exif()
    with contextlib.suppress(Exception):  # a broken note does not break the picture
        exif.load(image.info.get("exif") or (_late_exif(file) if image.format == "PNG" else b""))
    turn = exif.get(ORIENTATION, 1)
    return turn if turn in TURNS else 1


def turn_picture(image: Image.Image, turn: int) -> Image.Image:
    """A copy of a picture, turned by its `read_orientation`."""
    return image.transpose(TURNS[turn]) if turn in TURNS else image.copy()


def _late_exif(file: IO[bytes]) -> bytes:
    """The chunk eXIf of a PNG, also behind its pixels."""
    place = file.tell()
    file.seek(8)
    found = b""
    while not found and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        found = file.read(length) if kind == b"eXIf" else b""
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(place)
    return found
