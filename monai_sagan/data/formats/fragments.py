"""Names of one image inside a file of several: ``cine.dcm#3``."""

from __future__ import annotations

from pathlib import Path

from monai_sagan.errors import SaganError

__all__ = ["choose_frame"]


def choose_frame(path: Path, fragment: str, frames: int) -> int:
    """The index of the frame that ``fragment`` names in a file of so many; none needs naming where there is one.

    Args:
        path: of the file.
        fragment: what follows ``#`` in the image's name, or nothing.
        frames: that the file has.

    Raises:
        SaganError: when the file does not have it, or has several and none is named.
    """
    if frames > 1 and not fragment:
        raise SaganError(
            f"{path} has {frames} frames; save each as a file of its own, or name those that are meant in a table, as "
            f"{path}#0"
        )
    if fragment and not fragment.isdigit():
        raise SaganError(f"{path}#{fragment} is not there: the file has no volume's axes; name a frame, such as #0")
    if int(fragment or 0) >= frames:
        raise SaganError(f"{path}#{fragment} is not there: #{fragment} is past #{frames - 1}, the file's last frame")
    return int(fragment or 0)
