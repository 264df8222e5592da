"""Names of one image inside a file of several: ``cine.dcm#3``."""

from __future__ import annotations

from pathlib import Path

from monai_sagan.errors import SaganError

__all__: list[str] = []


def choose_frame(path: Path, fragment: str, frames: int) -> int:
    """The index of the frame that ``fragment`` names; a file with one frame needs no name.

    Raises:
        SaganError: when the file does not have it, or has several and none is named.
    """
    if frames > 1 and not fragment:
        raise SaganError(
            f"{path} has {frames} frames; save each as a file of its own, or name frames in a table, as {path}#0"
        )
    if fragment and not fragment.isdigit():
        raise SaganError(f"{path}#{fragment} is not there: the file has no volume's axes; name a frame, such as #0")
    if int(fragment or 0) >= frames:
        raise SaganError(f"{path}#{fragment} is not there: #{fragment} is past #{frames - 1}, the file's last frame")
    return int(fragment or 0)
