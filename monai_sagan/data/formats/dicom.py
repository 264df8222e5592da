"""DICOM to 8-bit pictures.

``preparation="display"`` shows what a viewer would show: the modality LUT or rescaling is applied, then the first VOI
LUT or window, whose display range becomes 0 to 255. Without one, unsigned 8-bit pixels stay as they are and others are
scaled linearly from the image's least to its greatest value. MONOCHROME1 is inverted within that range. Padding does
not affect the scaling and is black. Palettes and luminance-chrominance become RGB. See DICOM PS3.3, C.7.6.3 and C.11.

``preparation="med_ad"`` repeats how the published Med-AD sets were made: the stored pixels, MONOCHROME1 subtracted from
its greatest value; all but 8-bit ones scaled from the least to the greatest value and truncated; no LUT, no window.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_sagan.data.formats.dicom_frames import raw_frame
from monai_sagan.data.formats.dicom_values import grey_of, used_bits
from monai_sagan.data.formats.fragments import choose_frame
from monai_sagan.data.formats.scaling import Pixels, check_numbers, stretch
from monai_sagan.data.formats.workers import one_line

if TYPE_CHECKING:
    from pydicom import Dataset

__all__: list[str] = []

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
DAYS_OF = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
NOBODY = re.compile(r"[\W_0x]*|anon(ymous|ymi[sz]ed)?|unknown|none|null|n/?a|removed|de-?identified", re.IGNORECASE)
WORDS = {"modality": "Modality", "view": "ViewPosition", "sex": "PatientSex"}


def open_dicom(path: Path, preparation: str = "display") -> Callable[[str], tuple[Pixels, dict[str, Any]]]:
    """Open a DICOM file: a function from a frame's index or "" to the frame, uint8 (H, W[, 3]), and its description.

    Raises:
        SaganError: by the function: for a missing frame, or without an installed decoder.
        ValueError: when the file holds no pixels.
    """
    dataset = _read(path)
    frames, description = _frames(dataset), _describe(dataset)

    def picture(fragment: str) -> tuple[Pixels, dict[str, Any]]:
        frame = choose_frame(path, fragment, frames)
        raw = raw_frame(dataset, frame, path)
        header = _header_of(dataset, frame)
        return (_med_ad if preparation == "med_ad" else _display)(raw, header), description

    return picture


def describe_dicom(path: Path) -> Callable[[str], dict[str, Any]]:
    """Open a DICOM file's header: a function from a frame's index or "" to the description.

    Raises:
        SaganError: by the function: for a missing frame.
        ValueError: when the file holds no pixels.
    """
    dataset = _read(path, header_only=True)
    color = dataset.get("SamplesPerPixel") == 3 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    size = {"width": int(dataset.Columns), "height": int(dataset.Rows), "mode": "RGB" if color else "L"}
    frames, description = _frames(dataset), size | _describe(dataset)

    def describe(fragment: str) -> dict[str, Any]:
        choose_frame(path, fragment, frames)
        return description

    return describe


@functools.cache
def _quiet() -> None:
    """Silence pydicom, once for all threads: it warns of every oddity of a header, and raises what matters."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def _read(path: Path, header_only: bool = False) -> Dataset:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _quiet()
    # By force, for old archives left out the mark and the file's meta information.
    dataset = dcmread(path, force=True, stop_before_pixels=header_only)
    if not any(keyword in dataset for keyword in (("Rows",) if header_only else PIXELS)):
        kind = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")
        raise ValueError(f"{kind.name} has no pixels" if kind else "no DICOM with pixels")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _header_of(dataset: Dataset, frame: int) -> Dataset:
    """The dataset with the rescaling and window that enhanced multi-frame objects keep for each frame."""
    from pydicom import Dataset

    groups = [*(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]]
    groups += [*(dataset.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]]
    if not groups:
        return dataset
    header = Dataset(dataset)
    header.file_meta = dataset.file_meta
    for group in groups:
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(sequence) or [])[:1]:
                header.update(item)
    return header


def _med_ad(raw: Pixels, header: Dataset) -> Pixels:
    pixels = used_bits(raw, header)
    if pixels.dtype.kind == "i":
        pixels = pixels.astype(np.int64)  # differences of 16-bit values do not fit in 16 bits
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = pixels.max() - pixels
    if pixels.dtype == np.uint8:
        return pixels
    check_numbers(pixels)
    low, high = pixels.min(), pixels.max()
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    # In this order and truncated, as the sets were made: a value on the edge of two greys goes to the same side.
    return np.asarray((pixels - low) * 1.0 / (high - low) * 255).astype(np.uint8)


def _display(raw: Pixels, header: Dataset) -> Pixels:
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return _from_palette(used_bits(raw, header), header)
    if raw.ndim == 3:
        return raw if raw.dtype == np.uint8 else stretch(used_bits(raw, header))
    if raw.dtype.itemsize > 2:  # too many possible values: those that occur
        values, index = np.unique(raw, return_inverse=True)
        check_numbers(values)
        return grey_of(values, lambda: np.ones(len(values), bool), header)[index.reshape(raw.shape)]
    # Each possible pixel is converted once; the image is then one look-up in that table.
    index = raw.view(f"u{raw.dtype.itemsize}")
    possible = np.arange(256**raw.dtype.itemsize).astype(index.dtype).view(raw.dtype)
    return grey_of(possible, lambda: np.bincount(index.ravel(), minlength=len(possible)) > 0, header).take(index)


def _from_palette(pixels: Pixels, header: Dataset) -> Pixels:
    from pydicom.pixels import apply_color_lut

    colors = apply_color_lut(pixels, header)
    deep = colors.dtype != np.uint8 and colors.max() > 255  # some say 16 bits and use 8
    return (colors >> 8 if deep else colors).astype(np.uint8)


def _describe(dataset: Dataset) -> dict[str, Any]:
    """What the header says about the image and the patient, without anything that identifies the patient."""
    words = {key: one_line(str(dataset.get(keyword) or "")).upper() for key, keyword in WORDS.items()}
    known: dict[str, Any] = {"format": "DICOM"} | {key: word for key, word in words.items() if word}
    if known.get("sex") not in (None, "F", "M", "O"):
        del known["sex"]
    age = re.fullmatch(r"(\d{1,3})([DWMY]?)", str(dataset.get("PatientAge") or "").strip().upper())
    if age:
        unit = age[2] or "Y"
        known["age"] = int(age[1]) if unit == "Y" else round(int(age[1]) * DAYS_OF[unit] / DAYS_OF["Y"], 3)
    patient = str(dataset.get("PatientID") or "").strip()
    if not NOBODY.fullmatch(patient):
        known["patient"] = hashlib.sha256(patient.encode()).hexdigest()[:16]
    return known
