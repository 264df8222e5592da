"""What was run on which data: splits, files left out, what the audit found and what it cannot know."""

from __future__ import annotations

from collections import Counter
from typing import Any

from monai_sagan.data.datalist import SPLITS
from monai_sagan.report.html import Html, join, paragraph, section, table, tag
from monai_sagan.report.numbers import NONE, count
from monai_sagan.runs.read import Run

__all__ = ["data_section"]

USES = {
    "train_normal": "training: what is normal",
    "train_unlabeled": "training: labels are never read",
    "valid_normal": "choosing the model, color scale and thresholds",
    "valid_unlabeled": "choosing the model: labels are never read",
    "test": "these results, and nothing else",
}
FINDINGS = {
    "exact_duplicates": ("pair of images with the same pixels", "pairs of images with the same pixels"),
    "near_duplicates": ("pair of nearly the same images", "pairs of nearly the same images"),
    "shared_patients": ("patient known to be on two sides", "patients known to be on two sides"),
    "normal_and_unlabeled": (
        "training image that is among the normal and the unlabeled ones",
        "training images that are among the normal and the unlabeled ones",
    ),
}
EXAMPLES = 3


def data_section(run: Run) -> Html:
    """What is in the splits of ``run``, what was left out, and what the audit found."""
    return section("data", "Data", _splits(run), tag("h3", "Files left out"), _skipped(run), *_audit(run))


def _splits(run: Run) -> Html:
    if run.splits is not None:
        counts = {name: _counted(items) for name, items in run.splits.items()}
    elif run.audit is not None and isinstance(run.audit.get("splits"), dict):
        counts = run.audit["splits"]
    else:
        return paragraph("The run's folder has no splits.json: how the images were split is not known here.")
    names = [name for name in SPLITS if name in counts] + sorted(set(counts) - set(SPLITS))
    rows = [
        [name, _number(c.get("images")), _abnormal(c), _number(c.get("patients")), USES.get(name, "")]
        for name, c in ((name, counts[name]) for name in names)
    ]
    head = ["split", "images", "abnormal", "patients", "used for"]
    note = paragraph(
        "Known labels of unlabeled images served at most to build a wanted share of abnormal ones.", kind="soft"
    )
    title = "Images of each split, by label and patient where known"
    return join(table(head, rows, title, prose=head[-1:]), note)


def _counted(items: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [item.get("label") for item in items]
    patients = {item["patient"] for item in items if item.get("patient") is not None}
    return {
        "images": len(items),
        "abnormal": None if None in labels else sum(label == 1 for label in labels),
        "patients": len(patients) or None,
    }


def _abnormal(counts: dict[str, Any]) -> str:
    return "not known" if counts.get("abnormal") is None else f"{counts['abnormal']:,}"


def _number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _skipped(run: Run) -> Html:
    if run.skipped is None:
        return paragraph("No skipped.csv: the run names no file that it left out.")
    if not run.skipped:
        return paragraph("None: every file was used.")
    reasons = Counter(run.names.short(reason) for _, reason in run.skipped)
    first = {run.names.short(reason): run.names.short(image) for image, reason in reversed(run.skipped)}
    ordered = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
    rows = [[f"{reasons[reason]:,}", reason, first[reason]] for reason in ordered[:10]]
    more = len(ordered) - len(rows)
    rest = paragraph(f"{count(more, 'further reason')} in skipped.csv.", kind="soft") if more else None
    head = ["files", "reason", "the first"]
    return join(table(head, rows, "By reason, from skipped.csv", prose=head[1:]), rest)


def _audit(run: Run) -> list[Html]:
    head = tag("h3", "Audit")
    if run.audit is None:
        return [
            head,
            paragraph("The run's folder has no audit.json: duplicates and shared patients were not looked for."),
        ]
    lines = [_finding(run, run.audit[key], words) for key, words in FINDINGS.items() if key in run.audit]
    kinds = [
        f"The {kind['property']} of the files alone tells {kind['of']} apart with an AUC of {kind['auc']:.2f}"
        for kind in run.audit.get("file_kinds", [])
        if kind.get("auc", 0) > 0.5
    ]
    sources = run.audit.get("patients_by", {})
    known = ", ".join(f"{source}: {count(images, 'image')}" for source, images in sources.items() if images)
    unknown = [tag("li", run.names.short(text)) for text in run.audit.get("cannot_know", [])]
    return [
        head,
        paragraph("Looked for between training, validation and test, and within training:"),
        tag("ul", *(tag("li", line) for line in [*lines, *kinds])),
        *([paragraph(f"What names the patients: {known}.")] if known else []),
        *([paragraph("What the audit cannot know:"), tag("ul", *unknown)] if unknown else []),
    ]


def _finding(run: Run, found: dict[str, Any], words: tuple[str, str]) -> str:
    number = found.get("count", 0)
    if not number:
        return f"no {words[1]}"
    pairs = [map(run.names.short, example.get("images", [])[:2]) for example in found.get("examples", [])[:EXAMPLES]]
    examples = "; ".join(" and ".join(pair) for pair in pairs)
    return f"{number:,} {words[number != 1]}" + (f", for example {examples}" if examples else "")
