"""Slices of NIfTI volumes as pictures that stand upright.

A volume is brought to its closest canonical orientation first: the axes x, y, z then run to the patient's right, front
and head. A slice is shown as radiologists are used to: on top is the front (z) or the head (x and y), and on the left
is the patient's right (y and z) or front (x).

All slices of a volume share one scale: its 0.5th percentile becomes black and its 99.5th white, so a bright slice stays
brighter than a dark one, and a few extreme voxels do not decide; where the two are equal it is the least and the
greatest value. Volumes of unsigned bytes stay as they are.

A file with one slice only is a picture of that slice, and needs no fragment; its least value becomes black and its
greatest white. Where a header has no orientation of its own, nibabel's is taken: the first axis runs to the left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monai_sagan.data.formats.scaling import Pixels, check_numbers, stretch
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.errors import SaganError

__all__: list[str] = []

AXES = "xyz"
PERCENTILES = (0.5, 99.5)


def open_nifti(path: Path) -> Callable[[str], tuple[Pixels, dict[str, Any]]]:
    """Open a volume: a function from a fragment, such as ``"z41"``, to that slice, uint8 (H, W), and its description.

    Raises:
        SaganError: naming the file, when it is neither a volume nor a picture of real numbers, or has no orientation;
            by the function: for a missing slice.
        ValueError: when it has NaN or infinite values.
    """
    volume: Pixels = np.asanyarray(_untyped("as_closest_canonical")(_load(path)).dataobj)
    check_numbers(volume)
    if volume.dtype == np.uint8:
        low, high = 0.0, 255.0
    elif _is_picture(volume.shape):
        low, high = float(volume.min()), float(volume.max())
    else:
        low, high = _display_range(volume)

    def slice_of(fragment: str) -> tuple[Pixels, dict[str, Any]]:
        axis, index = _place(volume.shape, fragment, path)
        plane = np.moveaxis(volume, axis, 0)[index]  # a view: `take` would copy the volume for each slice
        return stretch(plane.T[::-1, ::-1], low, high), {"format": "NIFTI"}

    return slice_of


def describe_nifti(path: Path) -> Callable[[str], dict[str, Any]]:
    """A function from a fragment to ``width``, ``height``, ``mode`` and ``format``; no voxel is read."""
    shape = _canonical_shape(_load(path))

    def describe(fragment: str) -> dict[str, Any]:
        axis, _ = _place(shape, fragment, path)
        width, height = shape[:axis] + shape[axis + 1 :]
        return {"width": width, "height": height, "mode": "L", "format": "NIFTI"}

    return describe


def list_slices(path: Path, axis: int, keep: tuple[float, float]) -> list[str]:
    """List the slices of a volume, see `monai_sagan.data.formats.decode.nifti_slices`."""
    axis, keep = check_slices(axis, keep)
    file = _load(path)
    if _is_picture(file.shape):
        return [str(path)]
    count = _canonical_shape(file)[axis]
    first, end = math.floor(round(keep[0] * count, 6)), math.ceil(round(keep[1] * count, 6))
    return [f"{path}#{AXES[axis]}{index}" for index in range(first, end)]


def _load(path: Path) -> Any:
    """The file's header, of three axes; voxels are read when they are asked for."""
    import nibabel

    file: Any = nibabel.load(path)
    shape, kind = tuple(file.shape), file.get_data_dtype()
    if len(shape) < 2 or 0 in shape or any(size != 1 for size in shape[3:]):
        raise SaganError(f"{path} has shape {shape}; save the volume that is meant as a file of its own")
    if kind.fields:
        raise SaganError(f"{path} has voxels of colors; save it in grey, or its slices as PNG files")
    if kind.kind == "c":
        raise SaganError(f"{path} has complex voxels; save their magnitude")
    if not np.isfinite(file.affine).all() or np.isnan(_untyped("io_orientation")(file.affine)).any():
        raise SaganError(f"{path} has a singular affine, which gives no orientation; write a valid sform or qform")
    return type(file)(file.dataobj.reshape((*shape, 1)[:3]), file.affine, file.header)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return shape.count(1) == 1


def _canonical_shape(file: Any) -> tuple[int, ...]:
    axes = [int(axis) for axis in _untyped("io_orientation")(file.affine)[:, 0]]
    return tuple(file.shape[axes.index(axis)] for axis in range(3))


def _untyped(name: str) -> Callable[..., Any]:
    """A function of nibabel's that has no types."""
    import nibabel

    function: Callable[..., Any] = getattr(nibabel, name)
    return function


def _display_range(volume: Pixels) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(volume, PERCENTILES))
    return (low, high) if high > low else (float(volume.min()), float(volume.max()))


def _place(shape: tuple[int, ...], fragment: str, path: Path) -> tuple[int, int]:
    """The axis of a volume and the index along it that a fragment names; a picture's slice needs no name."""
    if not fragment and _is_picture(shape):
        return shape.index(1), 0
    if fragment[:1] not in tuple(AXES):
        middle = f"{path}#z{shape[2] // 2}"
        raise SaganError(f"{path} is a volume of shape {shape}; name one slice of it, for example {middle}")
    axis, index = AXES.index(fragment[0]), int(fragment[1:])
    if index >= shape[axis]:
        last = f"{fragment[0]}{shape[axis] - 1}"
        raise SaganError(f"{path}#{fragment} is not there: #{fragment} is past #{last}, the last slice along that axis")
    return axis, index
