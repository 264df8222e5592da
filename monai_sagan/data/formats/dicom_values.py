"""Stored DICOM values to 8-bit grey: unused bits, padding, modality and VOI transformations.

All functions work on each value alone, so one table of all possible values serves for an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from monai_sagan.data.formats.scaling import Pixels, stretch

if TYPE_CHECKING:
    from pydicom import Dataset

__all__: list[str] = []


def grey_of(raw: Pixels, present: Callable[[], Pixels], header: Dataset) -> Pixels:
    """Convert raw values (N,) of a frame to uint8 (N,); ``present()`` says which of them the image has, bool (N,)."""
    stored = used_bits(raw, header)
    padding = _is_padding(raw, header) | _is_padding(stored, header)
    values = _modality(stored, header)
    inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    shares = _voi(values, header)
    if shares is not None:
        grey = stretch(1 - shares if inverted else shares, 0, 1)
    else:
        plain = header.get("BitsStored") == 8 and stored.dtype.kind == "u"  # its range is the type's, not the image's
        used = values if plain else values[present() & ~padding]
        if not len(used):
            return np.zeros(len(raw), np.uint8)
        low, high = float(used.min()), float(used.max())
        grey = stretch(high - values, 0, high - low) if inverted else stretch(values - low, 0, high - low)
    grey[padding] = 0
    return grey


def used_bits(raw: Pixels, header: Dataset) -> Pixels:
    """Remove everything beside the stored bits from raw values of any shape."""
    bits, size = header.get("BitsStored", 0), 8 * raw.dtype.itemsize
    if raw.dtype.kind == "f" or not 0 < bits < size:
        return raw
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax.name != "RLE Lossless" and raw.dtype.kind == "u":
        return np.asarray(np.minimum(raw, 2**bits - 1))  # lossy compression overshoots the greatest value
    above = size - 1 - header.get("HighBit", bits - 1)
    above = above if 0 <= above <= size - bits else size - bits
    return np.asarray((raw << above) >> (size - bits))  # a signed type keeps its sign


def _is_padding(values: Pixels, header: Dataset) -> Pixels:
    ends = [number_of(header, f"PixelPadding{end}") for end in ("Value", "RangeLimit")]
    if ends[0] is None or values.dtype.kind == "f":
        return np.zeros(values.shape, bool)
    # Headers write a negative value as its unsigned twin, and the other way round.
    wrapped = [int(np.array(int(end)).astype(values.dtype)) for end in ends if end is not None]
    return (values >= min(wrapped)) & (values <= max(wrapped))


def _modality(stored: Pixels, header: Dataset) -> Pixels:
    if header.get("ModalityLUTSequence"):
        entries, _ = _look_up(stored, header.ModalityLUTSequence[0], header)
        return entries
    slope, intercept = (number_of(header, f"Rescale{name}") for name in ("Slope", "Intercept"))
    return np.asarray(stored * (1.0 if slope is None else slope) + (intercept or 0.0))


def _voi(values: Pixels, header: Dataset) -> Pixels | None:
    """Modality values as shares of the range that the VOI LUT or the window displays; None without either."""
    tables = header.get("VOILUTSequence")
    if tables and tables[0].get("LUTDescriptor") and tables[0].get("LUTData"):
        entries, greatest = _look_up(values, tables[0], header)
        return np.asarray(entries / greatest)
    center, width = (number_of(header, f"Window{name}") for name in ("Center", "Width"))
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if center is None or width is None or width < (1 if function == "LINEAR" else 1e-9):
        return None  # the standard forbids this width
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if not width:
        return np.asarray(values > center, np.float64)
    return np.asarray(np.clip((values - center) / width + 0.5, 0, 1))


def _look_up(values: Pixels, table: Dataset, header: Dataset) -> tuple[Pixels, int]:
    """Entries of a LUT, float64, and the greatest possible one.

    pydicom's own index into a table of 8-bit entries wraps around at 256.
    """
    count, first, bits = (int(number) for number in table.LUTDescriptor)
    count = count or 2**16
    data = table.LUTData
    if isinstance(data, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else np.uint8)[:count]
    else:
        entries = np.atleast_1d(np.asarray(data, np.int64))[:count]
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # written as its unsigned twin
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.intp)
    greatest = int(entries.max())
    # Some tables say 16 bits and use 12.
    return entries[index].astype(np.float64), max(2 ** min(bits, greatest.bit_length()) - 1, 1)


def number_of(header: Dataset, keyword: str) -> float | None:
    """A number of a header, the first of several; None where it has none."""
    value = header.get(keyword)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)
