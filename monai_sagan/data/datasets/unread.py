"""Files in a folder of images that are not read: counted by their kind, so that none is passed over unnoticed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from monai_sagan.data.formats.decode import IMAGE_SUFFIXES
from monai_sagan.errors import SaganError

__all__ = ["no_images", "unread_kinds", "warn_of_unread"]

logger = logging.getLogger(__name__)

# Suffixes of images, or of what often holds images, that nothing here reads.
OTHERS = {".avif", ".czi", ".dib", ".exr", ".h5", ".heic", ".heif", ".ico", ".img", ".j2k", ".jp2", ".jpf", ".jpx",
          ".jxl", ".mgh", ".mgz", ".mha", ".mhd", ".mnc", ".npy", ".npz", ".nrrd", ".pcx", ".pdf", ".psd", ".raw",
          ".svg", ".svs", ".tga", ".zip"}  # fmt: skip


def unread_kinds(paths: Iterable[Path]) -> dict[str, int]:
    """How many files are not read, by the reason: a kind of image that is unknown here, or no image at all.

    Args:
        paths: of files that are no images by `is_image_file`.
    """
    kinds = (path.suffix.lower() for path in paths)
    return Counter(
        f"files of type {kind}, which is not read" if kind in OTHERS else "files that are no images" for kind in kinds
    )


def warn_of_unread(folder: Path, paths: Iterable[Path]) -> None:
    """Log the kinds of images in a folder that are unknown here.

    Args:
        folder: which was looked through.
        paths: see `unread_kinds`.
    """
    for reason, count in unread_kinds(path for path in paths if path.suffix.lower() in OTHERS).items():
        logger.warning(f"left out of {folder}: {count} {reason}")


def no_images(folder: Path, paths: Iterable[Path], shown: int = 6) -> SaganError:
    """The error of a folder without images, which says what is there instead.

    Args:
        folder: which was looked through.
        paths: of its files.
        shown: how many kinds of files are named.
    """
    kinds = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    most = [f"{kind} ({count})" for kind, count in kinds.most_common(shown)]
    there = ", ".join(most + ["others"] * (len(kinds) > shown)) or "no files"
    return SaganError(
        f"no images in {folder}, which has {there}; its files should end in one of {', '.join(IMAGE_SUFFIXES)}"
    )
