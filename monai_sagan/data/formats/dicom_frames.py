"""Stored pixels of a DICOM frame, in any encoding that an installed, permissively licensed decoder reads."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.workers import one_line
from monai_sagan.errors import SaganError
from monai_sagan.packages import pip_install

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

__all__: list[str] = []

# Pillow first, so that pixels do not depend on what else is installed. GDCM only for what nothing else decodes, JPEG
# lossless and 12-bit JPEG: some broken streams make it end the process.
PLUGINS = ("pillow", "pylibjpeg", "pyjpegls", "pydicom")
WITH_UNUSED_BITS: Any = {"correct_unused_bits": False}


def raw_frame(dataset: Dataset, frame: int, path: Path) -> Pixels:
    """A frame as it is stored, unused bits included: (H, W), or RGB (H, W, 3).

    Raises:
        SaganError: when nothing that is installed decodes its transfer syntax; it names the packages that do.
        ValueError: when its pixels are neither grey nor RGB.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise SaganError(
            f"{path} is encoded as {one_line(syntax.name)}, which nothing here decodes; export it as images"
        ) from None
    if syntax == JPEGExtended12Bit and dataset.BitsStored > 8:
        raw = _decode_12_bit_jpeg(dataset, frame, path)
    elif decoder.is_native:
        raw = decoder.as_array(dataset, index=frame, **WITH_UNUSED_BITS)[0]
    else:
        raw = _decompress(decoder, dataset, frame, path)
    if raw.shape[2:] not in ((), (3,)):
        raise ValueError(f"pixels of shape {raw.shape} are neither grey nor RGB")
    return raw.astype(raw.dtype.newbyteorder("="), copy=False)


def _decompress(decoder: Decoder, dataset: Dataset, frame: int, path: Path) -> Pixels:
    available = decoder.available_plugins
    if not available:
        raise _not_installed(dataset, path)
    failures = []
    for plugin in [name for name in PLUGINS if name in available] or available:
        try:
            return decoder.as_array(dataset, index=frame, decoding_plugin=plugin, **WITH_UNUSED_BITS)[0]
        except Exception as error:
            failures.append(str(error).split("plugins:")[-1].strip())
    raise ValueError("; ".join(failures))


def _decode_12_bit_jpeg(dataset: Dataset, frame: int, path: Path) -> Pixels:
    """Decode by GDCM with the stream's own precision; pydicom would take the header's."""
    from pydicom.encaps import get_frame

    try:
        gdcm: Any = import_module("gdcm")
    except ImportError:
        raise _not_installed(dataset, path) from None
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(
        get_frame(dataset.PixelData, frame, number_of_frames=dataset.get("NumberOfFrames") or 1)
    )
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 12, 12, 11, 0))
    pixels = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<u2")  # its bytes come as text
    return pixels.reshape(dataset.Rows, dataset.Columns).view("i2" if dataset.get("PixelRepresentation") else "u2")


def _not_installed(dataset: Dataset, path: Path) -> SaganError:
    name = one_line(dataset.file_meta.TransferSyntaxUID.name)
    return SaganError(f"{path} is encoded as {name}, which needs a decoder: {pip_install('dicom')}")
