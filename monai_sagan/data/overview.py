"""A dataset in words: its layout, the images of each split, those left out, and those that are broken."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.datasets.layouts import Dataset
from monai_sagan.data.datasets.patient_ids import patient_sources
from monai_sagan.data.formats.decode import check_min_foreground
from monai_sagan.data.formats.tasks import DecodeTask, LeftOut, Unreadable, group_by_file, run_tasks
from monai_sagan.data.unreadable import by_file
from monai_sagan.errors import SaganError
from monai_sagan.files import write_atomic

__all__: list[str] = []

COLUMNS = ("split", "image", "label", "patient", "view", "sex", "age", "site", "boxes")


class Findings(NamedTuple):
    """The result of looking at files, by the image's name.

    Args:
        good: descriptions.
        bad: why an image is unreadable.
        empty: why one is skipped: too little foreground.
    """

    good: dict[str, dict[str, Any]]
    bad: dict[str, str]
    empty: dict[str, str]


def look_at_files(
    datalist: Datalist, check: bool = False, jobs: int | None = None, min_foreground: float = 0.0
) -> Findings:
    """Read the headers of all images, or with ``check`` their pixels, and find the unreadable and the empty ones.

    ``min_foreground`` is the share of an image's pixels, 0 to 1, below which it counts as empty; it needs the
    pixels.

    Raises:
        SaganError: for a share below 0 or above 1, or a number of ``jobs`` below 1.
    """
    check_min_foreground(min_foreground)
    groups = group_by_file([item["image"] for items in datalist.values() for item in items])
    headers_only = not (check or min_foreground)
    tasks = [DecodeTask(group, min_foreground=min_foreground, headers_only=headers_only) for group in groups]
    findings = Findings({}, {}, {})
    bar = tqdm(run_tasks(tasks, jobs), "decoding" if check else "looking", len(tasks), unit="file", disable=None)
    for result in (result for results in bar for result in results):
        if isinstance(result, Unreadable):
            findings.bad[result.image] = result.reason
        elif isinstance(result, LeftOut):
            findings.empty[result.image] = result.reason
        else:
            findings.good[result.image] = result.description
    return findings


def describe_dataset(dataset: Dataset, findings: Findings, checked: bool = False) -> str:
    """The text that ``monai-sagan data`` prints; ``checked`` says whether pixels were decoded."""
    good, bad, empty = findings
    lines = [f"layout     {dataset.layout}, because of {dataset.evidence}", ""]
    used = {name: [i for i in items if i["image"] not in empty] for name, items in dataset.datalist.items()}
    lines += _table(used, good)
    sources = patient_sources((item for items in used.values() for item in items), good)
    known = ", ".join(f"{source}: {count}" for source, count in sources.items())
    notes = {**({"patients": known} if known else {}), **dataset.notes}
    reasons = Counter(f"foreground {reason.partition(', ')[2]}" for reason in empty.values())
    lines += [
        "",
        *(f"{word:<10} {note}" for word, note in notes.items()),
        *_left_out({**dataset.left_out, **reasons}),
        *_kinds(good),
    ]
    how = "decoded" if checked else "headers read; add --check to decode all pixels"
    lines += [f"{'unreadable':<10} {len(bad)} of {len(good) + len(bad)} images ({how})"]
    lines += [f"{'':<10} {reason}" for reason in by_file(bad).values()]
    return "\n".join(lines)


def _table(datalist: Datalist, good: Mapping[str, Mapping[str, Any]]) -> list[str]:
    header: tuple[str, ...] = (
        "split",
        "images",
        "normal",
        "abnormal",
        "unknown",
        "patients",
        "with boxes",
        "first image",
    )
    rows = [header]
    for name, items in datalist.items():
        labels = Counter(item["label"] for item in items)
        patients = {item.get("patient", good.get(item["image"], {}).get("patient")) for item in items} - {None}
        boxed = sum(bool(item.get("boxes") or item.get("mask")) for item in items)
        first = Path(items[0]["image"]).name if items else ""
        counts = (len(items), labels[0], labels[1], labels[None], len(patients) or "not known", boxed)
        rows.append((name, *map(str, counts), first))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _left_out(left_out: Mapping[str, int]) -> Iterator[str]:
    for i, (reason, count) in enumerate(left_out.items()):
        yield f"{'' if i else 'left out':<10} {count} images, {reason}"


def _kinds(good: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not good:
        return
    described = list(good.values())
    kinds = {
        "sizes": [f"{image['width']} x {image['height']}" for image in described],
        "modes": [image["mode"] for image in described],
        "formats": [image.get("format", "unknown") for image in described],
        "modalities": [image["modality"] for image in described if "modality" in image],
        "views": [image["view"] for image in described if "view" in image],
        "sexes": [image["sex"] for image in described if "sex" in image],
    }
    for name, values in kinds.items():
        if values:
            yield f"{name:<10} {_most_common(values)}"


def _most_common(values: Sequence[str], shown: int = 6) -> str:
    counts = Counter(values)
    rest = len(counts) - shown
    most = ", ".join(f"{value}: {count}" for value, count in counts.most_common(shown))
    return most + (f", and {rest} more" if rest > 0 else "")


def write_items(datalist: Datalist, path: str | Path, described: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write a CSV table of all images, with their split and everything that is known of them.

    Raises:
        SaganError: when the file cannot be written.
    """

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            headers = described or {}
            rows.writerows(
                _row(name, {**headers.get(item["image"], {}), **item})
                for name, items in datalist.items()
                for item in items
            )

    try:
        write_atomic(path, write)
    except OSError as error:
        raise SaganError(f"cannot write {path} ({error.strerror}); name another file") from None


def _row(split: str, item: Item) -> list[Any]:
    cells = item | {"split": split, "boxes": len(item["boxes"]) if "boxes" in item else None}
    return ["" if cells.get(column) is None else cells[column] for column in COLUMNS]
