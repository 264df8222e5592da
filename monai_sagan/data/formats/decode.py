"""Image files of any common format to 8-bit pictures, with what their headers say.

One image inside a file of several is named ``path#fragment``: ``cine.dcm#3`` is the fourth frame, ``volume.nii.gz#z41``
a slice, see `monai_sagan.data.formats.nifti`. It runs in small worker processes, without torch and MONAI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from monai_sagan.data.formats.workers import one_line
from monai_sagan.errors import SaganError

__all__ = ["read_image"]

DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
PICTURE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".bmp", ".webp", ".gif",
                    ".pbm", ".pgm", ".ppm", ".pnm", ".pfm")  # fmt: skip
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)
PREPARATIONS = ("display", "med_ad")
FRAGMENT = re.compile(r"[xyz]?\d+", re.ASCII)
BACKGROUND = 12  # 5 % of the display range: above it lie noise and the edges of lossy compression

T = TypeVar("T")
Description = dict[str, Any]
Picture = Callable[[str], tuple[Any, Description]]  # from a fragment to pixels or a Pillow image


class Decoded(NamedTuple):
    """An image in 8 bits, and its description.

    The description has ``width``, ``height``, ``mode`` and ``format``; of DICOM also, where the header has them,
    ``modality``, ``view``, ``sex``, ``age`` in years and ``patient``, a hash of the patient's id.
    """

    image: Image.Image
    description: Description


def is_image_file(path: str | Path) -> bool:
    """Whether a file is an image by its suffix or by DICOM's mark: exports often lack a suffix."""
    path = Path(path)
    if path.name.startswith(".") or path.name == "DICOMDIR":
        return False
    return path.name.lower().endswith(IMAGE_SUFFIXES) or _has_dicom_mark(path)


def split_fragment(path: str | Path) -> tuple[str, str]:
    """Split ``"a.nii.gz#z41"`` into ``("a.nii.gz", "z41")``; a file that has the full name is not split.

    >>> split_fragment("a.nii.gz#z41"), split_fragment("a.png")
    (('a.nii.gz', 'z41'), ('a.png', ''))
    """
    name = str(path)
    file, mark, fragment = name.rpartition("#")
    if not mark or not FRAGMENT.fullmatch(fragment) or Path(name).exists():
        return name, ""
    return file, fragment


def read_image(path: str | Path, preparation: str = "display") -> Image.Image:
    """Read one image in 8 bits as a viewer shows it: upright, in mode 1, L, P or RGB, on black where transparent.

    Pixels of other than 8 bits are scaled linearly from the image's least and greatest value to 0 and 255: see
    `monai_sagan.data.formats.pillow`; for DICOM `monai_sagan.data.formats.dicom`, for NIfTI
    `monai_sagan.data.formats.nifti`.

    >>> Image.new("RGBA", (3, 2), (9, 9, 9, 0)).save("a.png")
    >>> read_image("a.png").getpixel((0, 0))
    (0, 0, 0)

    Args:
        path: a file, or one image of it as ``path#fragment``.
        preparation: of DICOM, ``"display"`` or ``"med_ad"``; other formats are read in one way.

    Raises:
        SaganError: naming the file and what is wrong with it: unreadable, several frames or slices and none named,
            NaN or infinite pixels, a transfer syntax whose decoder is not installed.
    """
    return decode(path, preparation).image


def decode(path: str | Path, preparation: str = "display") -> Decoded:
    """Decode one image, see `read_image`, with its description."""
    (decoded,) = decode_file([path], preparation)
    if isinstance(decoded, SaganError):
        raise decoded
    return decoded


def decode_file(paths: Sequence[str | Path], preparation: str = "display") -> Iterator[Decoded | SaganError]:
    """Decode images of one file, which is opened and inflated once; an error comes in the place of its image.

    Raises:
        SaganError: for an unknown ``preparation``.
    """
    if preparation not in PREPARATIONS:
        raise SaganError(f"preparation is {preparation!r}; it is one of {', '.join(PREPARATIONS)}")
    return _each(paths, lambda file: _open(file, preparation))


def describe_file(paths: Sequence[str | Path]) -> Iterator[Description | SaganError]:
    """Describe images of one file from its headers alone, as `decode_file` does with pixels."""
    return _each(paths, _look)


def nifti_slices(path: str | Path, axis: int = 2, keep: tuple[float, float] = (0.0, 1.0)) -> list[str]:
    """List the slices ``path#z41`` of a volume from its header; a file with one slice is listed as it is.

    ``axis`` 0, 1 or 2 runs from left to right, back to front or feet to head; ``keep`` is a part of it, 0 to 1.

    Raises:
        SaganError: naming a file that is unreadable or not a volume, or an argument that is out of range.
    """
    from monai_sagan.data.formats.nifti import list_slices

    try:
        return list_slices(Path(path), axis, keep)
    except Exception as error:
        raise _refusal(path, error) from None


def count_frames(name: str) -> int:
    """Count the frames of a DICOM or picture file; 1 for a NIfTI volume, which has slices, or a broken file."""
    path = Path(name)
    try:
        if is_dicom(path):
            from pydicom import dcmread

            header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
            return int(header.get("NumberOfFrames") or 1)
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return 1
        from monai_sagan.data.formats.pillow import FORMATS

        with Image.open(path, formats=FORMATS) as image:
            return getattr(image, "n_frames", 1)
    except Exception:  # decoding reports what is wrong with it
        return 1


def foreground_share(image: Image.Image) -> float:
    """The share of pixels, 0 to 1, of an 8-bit image that are brighter than 5 % of the display range."""
    return float((np.asarray(image.convert("L")) > BACKGROUND).mean())


def lacks_foreground(image: Image.Image, least: float) -> str | None:
    """Why an image counts as empty, or None: its `foreground_share` is below ``least``."""
    share = foreground_share(image) if least else 1.0
    return f"foreground {share:.3f} of the image, below {least:g}" if share < least else None


def check_min_foreground(value: float) -> None:
    """Check that a share of foreground is between 0 and 1."""
    if not 0 <= value <= 1:
        raise SaganError(f"min_foreground is {value}; it is a share from 0 to 1, for example 0.05")


def _each(paths: Sequence[str | Path], opened: Callable[[Path], Callable[[str], T]]) -> Iterator[T | SaganError]:
    """Open the file of ``paths``; yield the result for each fragment, or the error."""
    file = split_fragment(paths[0])[0]
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            raise ValueError("not a regular file")  # a named pipe would block
        part = opened(Path(file))
    except Exception as error:
        yield from [_refusal(path, error) for path in paths]
        return
    for path in paths:
        try:
            yield part(split_fragment(path)[1])
        except Exception as error:
            yield _refusal(path, error)


def _open(path: Path, preparation: str) -> Callable[[str], Decoded]:
    if is_dicom(path):
        from monai_sagan.data.formats.dicom import open_dicom

        picture: Picture = open_dicom(path, preparation)
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        from monai_sagan.data.formats.nifti import open_nifti

        picture = open_nifti(path)
    else:
        from monai_sagan.data.formats.pillow import open_picture

        picture = open_picture(path)
    return lambda fragment: _decoded(*picture(fragment))


def _look(path: Path) -> Callable[[str], Description]:
    if is_dicom(path):
        from monai_sagan.data.formats.dicom import describe_dicom

        return describe_dicom(path)
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        from monai_sagan.data.formats.nifti import describe_nifti

        return describe_nifti(path)
    from monai_sagan.data.formats.pillow import describe_picture

    return describe_picture(path)


def is_dicom(path: Path) -> bool:
    """Whether a file is named as DICOM or has its mark."""
    return path.name.lower().endswith(DICOM_SUFFIXES) or _has_dicom_mark(path)


def _has_dicom_mark(path: Path) -> bool:
    if not path.is_file():  # a named pipe would block
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _decoded(image: Any, description: Description) -> Decoded:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.ascontiguousarray(image))
    return Decoded(image, {"width": image.width, "height": image.height, "mode": image.mode} | description)


def _refusal(path: str | Path, error: Exception) -> SaganError:
    """The error of an image in one line that has its full name."""
    if isinstance(error, SaganError):
        file = split_fragment(path)[0]
        return error if str(path) in str(error) else SaganError(str(error).replace(file, str(path), 1))
    if isinstance(error, FileNotFoundError):
        return SaganError(f"{path} is not there; restore it or leave it out")
    reason = one_line(str(error)) or type(error).__name__
    return SaganError(f"{path} is not a readable image ({reason}); replace it or leave it out")
