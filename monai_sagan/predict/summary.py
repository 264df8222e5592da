"""Counts of the results of a folder, and their summary in one line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_sagan import run_files
from monai_sagan.data.datasets.unread import no_images
from monai_sagan.errors import SaganError
from monai_sagan.predict.journal import Row
from monai_sagan.predict.results import Results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """Counts of the results of a folder.

    Args:
        output: where the results are.
        new: images that this call scored or skipped.
        scored: images with a score, those of earlier calls included.
        earlier: of these, how many were scored by earlier calls.
        gone: of these, how many are no longer in the folder.
        flagged: images above the threshold for 95 % specificity, without those outside the training range; None where
            the model has no threshold.
        skipped: images without a score, listed in ``skipped.csv``.
        outside_range: images outside the training range, which have no flag.
    """

    output: Path
    new: int
    scored: int
    earlier: int
    gone: int
    flagged: int | None
    skipped: int
    outside_range: int

    def __str__(self) -> str:
        notes = [f"{self.earlier} of them earlier"] * bool(self.earlier) + [f"{self.gone} gone since"] * bool(self.gone)
        scored = f"{self.scored} images scored" + (f" ({', '.join(notes)})" if notes else "")
        flagged = "no threshold to compare with" if self.flagged is None else f"{self.flagged} above the threshold"
        outside = f"{self.outside_range} outside the training range" + (
            " and not flagged" if self.outside_range else ""
        )
        rest = f"{flagged}, {self.skipped} skipped, {outside}; results are in {self.output}"
        return f"{'' if self.new else 'nothing new; '}{scored}, {rest}"


def summarize(results: Results, threshold: float | None, max_unreadable: float, others: Sequence[Path]) -> Summary:
    """Count the results; log unreadable images and those outside the training range that are in the folder now.

    Args:
        results: of a folder, complete.
        threshold: of the flags, or None.
        max_unreadable: largest accepted share of unreadable images, 0 to 1.
        others: files in the folder that are not images.

    Raises:
        SaganError: if no image was ever scored or too many are unreadable.
    """
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for kinds, row in _kinds(results):
        counts.update(kinds)
        for kind in kinds & {"skipped here", "outside here"}:
            first.setdefault(kind, row.get("reason") or f"{results.path(row['image'])}: {row['warning']}")
    if counts["here"] and not counts["scored"]:
        raise SaganError(
            f"none of the {counts['here']} images in {results.folder} could be scored; the first: "
            f"{first['skipped here']}"
        )
    if not counts:
        logger.warning(str(no_images(results.folder, others)))
    _warn(counts, first)
    _check_unreadable(counts, max_unreadable, first)
    return Summary(
        results.output,
        new=counts["new"],
        scored=counts["scored"],
        earlier=counts["scored"] - counts["scored new"],
        gone=counts["scored"] - counts["scored here"],
        flagged=None if threshold is None else counts["flagged"],
        skipped=counts["skipped"],
        outside_range=counts["outside"],
    )


def _kinds(results: Results) -> Iterator[tuple[set[str], Row]]:
    """Yield the counters of each image, such as "scored", and "scored here" if it is in the folder now."""
    for entry in results.entries():
        here = entry["file"] in results.files
        new = here and entry["file"] not in results.done
        for row in entry["rows"]:
            is_kind = {
                "scored": "score" in row,
                "skipped": "reason" in row,
                "unreadable": bool(row.get("again")),
                "flagged": bool(row.get("flag")),
                "outside": bool(row.get("warning")),
            }
            kinds = {kind for kind, holds in is_kind.items() if holds}
            where = ({"here"} if here else set()) | ({"new"} if new else set())
            yield kinds | where | {f"{kind} {place}" for kind in kinds for place in where}, row


def _warn(counts: Counter[str], first: dict[str, str]) -> None:
    if skipped := counts["skipped here"]:
        logger.warning(f"{skipped} skipped, listed in {run_files.SKIPPED}; the first: {first['skipped here']}")
    if outside := counts["outside here"]:
        counted = f"{outside} of {counts['scored here']} images are outside the training range"
        logger.warning(f"{counted}, the first: {first['outside here']}")


def _check_unreadable(counts: Counter[str], max_unreadable: float, first: dict[str, str]) -> None:
    unreadable = counts["unreadable here"]
    total = counts["scored here"] + unreadable
    if unreadable > max_unreadable * total:
        raise SaganError(
            f"{unreadable} of {total} images are unreadable, more than max_unreadable {max_unreadable} allows; "
            f"{run_files.SKIPPED} lists them, the first: {first['skipped here']}"
        )
