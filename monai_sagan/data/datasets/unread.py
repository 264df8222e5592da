"""Files in a folder of images that are not read: counted by kind, so that none is skipped silently."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from monai_sagan.data.formats.decode import IMAGE_SUFFIXES
from monai_sagan.errors import SaganError

__all__: list[str] = []

logger = logging.getLogger(__name__)

# Unsupported suffixes of images, or of files that often hold images.
OTHERS = {".avif", ".czi", ".dib", ".exr", ".h5", ".heic", ".heif", ".ico", ".img", ".j2k", ".jp2", ".jpf", ".jpx",
          ".jxl", ".mgh", ".mgz", ".mha", ".mhd", ".mnc", ".npy", ".npz", ".nrrd", ".pcx", ".pdf", ".psd", ".raw",
          ".svg", ".svs", ".tga", ".zip"}  # fmt: skip


def unread_kinds(paths: Iterable[Path]) -> dict[str, int]:
    """Count files that are not read, by the reason: an unsupported kind of image, or no image."""
    kinds = (path.suffix.lower() for path in paths)
    return Counter(
        f"files of type {kind}, which is not read" if kind in OTHERS else "files that are not images" for kind in kinds
    )


def warn_of_unread(folder: Path, paths: Iterable[Path]) -> None:
    """Log the unsupported kinds of images in a folder."""
    for reason, count in unread_kinds(path for path in paths if path.suffix.lower() in OTHERS).items():
        logger.warning(f"left out of {folder}: {count} {reason}")


def no_images(folder: Path, paths: Iterable[Path], shown: int = 6) -> SaganError:
    """The error for a folder without images, which says what it holds instead."""
    kinds = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    most = [f"{kind} ({count})" for kind, count in kinds.most_common(shown)]
    there = ", ".join(most + ["others"] * (len(kinds) > shown)) or "no files"
    return SaganError(
        f"no images in {folder}, which has {there}; its files should end in one of {', '.join(IMAGE_SUFFIXES)}"
    )
