"""What became of a folder, in numbers and in a line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from monai_sagan.data.formats.decode import IMAGE_SUFFIXES
from monai_sagan.errors import SaganError
from monai_sagan.predict.results import Results, Row

__all__ = ["Summary", "summarize"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What became of a folder.

    Args:
        output: where the results are.
        new: images that this call scored or skipped.
        scored: images with a score, those of earlier calls included.
        earlier: of these, how many were scored by earlier calls.
        gone: of these, how many are no longer in the folder.
        flagged: images above the threshold for 95 % specificity, without those that are unlike the training images;
            None where the artifact has no threshold.
        skipped: images without a score, listed in ``skipped.csv``.
        unlike: images that are unlike the training images, which have no flag.
    """

    output: Path
    new: int
    scored: int
    earlier: int
    gone: int
    flagged: int | None
    skipped: int
    unlike: int

    def __str__(self) -> str:
        notes = [f"{self.earlier} of them earlier"] * bool(self.earlier) + [f"{self.gone} gone since"] * bool(self.gone)
        scored = f"{self.scored} images scored" + (f" ({', '.join(notes)})" if notes else "")
        flagged = "no threshold to compare with" if self.flagged is None else f"{self.flagged} above the threshold"
        unlike = f"{self.unlike} unlike the training images" + (" and not flagged" if self.unlike else "")
        rest = f"{flagged}, {self.skipped} skipped, {unlike}; results are in {self.output}"
        return f"{'' if self.new else 'nothing new; '}{scored}, {rest}"


def summarize(results: Results, threshold: float | None) -> Summary:
    """Count the results; log what is unreadable or unusual among the images that are in the folder now.

    Args:
        results: of a folder, complete.
        threshold: of the flags, or None.

    Raises:
        SaganError: when there are images and none was ever readable.
    """
    rows, here = results.rows(), results.rows(results.files)
    new = results.rows(file for file in results.files if file not in results.done)
    scored, skipped = ([row for row in rows if name in row] for name in ("score", "reason"))
    if here and not scored:
        raise SaganError(
            f"none of the {len(here)} images in {results.folder} is readable; the first: {here[0]['reason']}"
        )
    if not rows:
        logger.warning(f"no images in {results.folder}; they end in one of {', '.join(IMAGE_SUFFIXES)}")
    _warn(results, here)
    return Summary(
        results.output,
        new=len(new),
        scored=len(scored),
        earlier=len(scored) - _scored(new),
        gone=len(scored) - _scored(here),
        flagged=None if threshold is None else sum(bool(row["flag"]) for row in scored),
        skipped=len(skipped),
        unlike=sum(bool(row["warning"]) for row in scored),
    )


def _scored(rows: list[Row]) -> int:
    return sum("score" in row for row in rows)


def _warn(results: Results, rows: list[Row]) -> None:
    skipped = [row["reason"] for row in rows if "reason" in row]
    unlike = [f"{results.path(row['image'])}: {row['warning']}" for row in rows if row.get("warning")]
    if skipped:
        logger.warning(f"{len(skipped)} skipped, listed in skipped.csv; the first: {skipped[0]}")
    if unlike:
        counted = f"{len(unlike)} of {_scored(rows)} images are unlike the training images"
        logger.warning(f"{counted}, the first: {unlike[0]}")
