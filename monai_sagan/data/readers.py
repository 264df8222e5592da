"""Image files of any common format to 8-bit pixels."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_sagan.errors import SaganError

__all__ = ["IMAGE_SUFFIXES", "is_image_file", "read_image"]

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
    *(".dcm", ".dicom", ".nii", ".nii.gz"),
)

Pixels = NDArray[Any]


def is_image_file(path: Path) -> bool:
    """Whether the file's name ends like one of the formats that `read_image` knows (`IMAGE_SUFFIXES`)."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def read_image(path: str | Path) -> Image.Image:
    """One image in 8 bits, grey (mode "L") or in whatever color mode the file has, not transposed.

    Pixels of other than 8 bits are scaled linearly from the image's own least and greatest value to 0 and 255, which
    is how the Med-AD sets were prepared. DICOM: the modality LUT and the VOI LUT or window are applied, MONOCHROME1
    is inverted. NIfTI: one slice.

    Raises:
        SaganError: naming the file and what is wrong with it: unreadable, several frames or slices, NaN or infinite
            pixels.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        if name.endswith((".dcm", ".dicom")):
            return Image.fromarray(_to_uint8(_dicom_pixels(path), path))
        if name.endswith((".nii", ".nii.gz")):
            return Image.fromarray(_to_uint8(_nifti_pixels(path), path))
        return _pillow_image(path)
    except SaganError:
        raise
    except FileNotFoundError:
        raise SaganError(f"{path} is not there; restore it or leave it out") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SaganError(f"{path} is not a readable image ({reason}); replace it or leave it out") from None


def _pillow_image(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a camera's JPEG with a preview of itself
                raise SaganError(_too_many(path, frames))
            image.load()
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                return Image.fromarray(_to_uint8(np.asarray(image), path))
            return image.copy()


def _dicom_pixels(path: Path) -> Pixels:
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

    # It raises what it logs there with a stack trace.
    logging.getLogger("pydicom.pixels.decoders.base").setLevel(logging.CRITICAL)
    dataset = pydicom.dcmread(path)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise SaganError(_too_many(path, frames))
    pixels = dataset.pixel_array
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        return apply_color_lut(pixels, dataset)
    if int(dataset.get("SamplesPerPixel", 1)) == 3:
        return pixels
    pixels = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = 255 - pixels if pixels.dtype == np.uint8 else -pixels.astype(np.float64)
    return pixels


def _too_many(path: Path, frames: int) -> str:
    return f"{path} has {frames} frames; save the one that is meant as a file of its own"


def _nifti_pixels(path: Path) -> Pixels:
    import nibabel

    volume: Any = nibabel.load(path)
    pixels: Pixels = np.squeeze(np.asanyarray(volume.dataobj))
    if pixels.ndim != 2:
        raise SaganError(f"{path} has shape {pixels.shape}; save the slice that is meant as a file of its own")
    return pixels.T  # NIfTI's first axis runs along a row


def _to_uint8(pixels: Pixels, path: Path) -> Pixels:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise SaganError(f"{path} has {count} NaN or infinite pixels; replace them by numbers or leave the image out")
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    return np.round(scaled).astype(np.uint8)
