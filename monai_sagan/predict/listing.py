"""The images below a folder that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_sagan.data.datasets.folder import list_images
from monai_sagan.data.datasets.unread import warn_of_unread


def list_folder(
    folder: Path, overlays: Path, axis: int, keep: tuple[float, float]
) -> tuple[dict[str, Sequence[str]], list[Path]]:
    """List the image files below a folder with the relative names of their images, in order; and the other files.

    Unsupported kinds of images are logged.

    Args:
        folder: searched with its sub-folders.
        overlays: a folder of pictures from earlier calls, which are not scored.
        axis: of NIfTI volumes, 0, 1 or 2, see `monai_sagan.data.datasets.folder`.
        keep: the part of a volume to score, two rising shares from 0 to 1.
    """
    files: dict[str, Sequence[str]] = {}
    others: list[Path] = []
    for path, names in list_images(folder, axis, keep, [overlays]):
        file = path.relative_to(folder).as_posix()
        if not names:
            others.append(path)
        elif names == [str(path)]:
            files[file] = (file,)  # one text for both
        else:
            files[file] = [Path(name).relative_to(folder).as_posix() for name in names]
    warn_of_unread(folder, others)
    return files, others
