"""The data: splits, skipped files, and the audit's findings and limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

from monai_sagan.data.datalist import SPLITS
from monai_sagan.report.html import Html, join, paragraph, section, table, tag
from monai_sagan.report.numbers import NONE, count
from monai_sagan.runs.read import Run

USES = {
    "train_normal": "training: what is normal",
    "train_unlabeled": "training: labels are never read",
    "valid_normal": "choosing the model, color scale and thresholds",
    "valid_unlabeled": "choosing the model: labels are never read",
    "test": "these results only",
}
FINDINGS = {
    "exact_duplicates": ("pair of images with the same pixels", "pairs of images with the same pixels"),
    "near_duplicates": ("pair of nearly the same images", "pairs of nearly the same images"),
    "shared_patients": ("patient known to be in two of them", "patients known to be in two of them"),
    "normal_and_unlabeled": (
        "training image that is among the normal and the unlabeled ones",
        "training images that are among the normal and the unlabeled ones",
    ),
}
EXAMPLES = 3


def data_section(run: Run) -> Html:
    """Splits, skipped files and the audit."""
    return section("data", "Data", _splits(run), tag("h3", "Skipped files"), _skipped(run), *_audit(run))


def _splits(run: Run) -> Html:
    if run.splits is not None:
        counts = {name: _counted(items) for name, items in run.splits.items()}
    elif run.audit is not None and isinstance(run.audit.get("splits"), dict):
        counts = run.audit["splits"]
    else:
        return paragraph("The run's folder has no splits.json: the splits are unknown.", id="no-splits")
    names = [name for name in SPLITS if name in counts] + sorted(set(counts) - set(SPLITS))
    rows = [
        [name.replace("_", " "), _number(c.get("images")), _abnormal(c), _number(c.get("patients")), USES.get(name, "")]
        for name, c in ((name, counts[name]) for name in names)
    ]
    head = ["split", "images", "abnormal", "patients", "used for"]
    note = paragraph("Known labels of unlabeled images were used at most to set the anomaly ratio.", kind="soft")
    title = "Images of each split, by label and patient where known"
    return join(table(head, rows, title, prose=head[-1:], ids=[f"split-{name}" for name in names]), note)


def _counted(items: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [item.get("label") for item in items]
    patients = {item["patient"] for item in items if item.get("patient") is not None}
    return {
        "images": len(items),
        "abnormal": None if None in labels else sum(label == 1 for label in labels),
        "patients": len(patients) or None,
    }


def _abnormal(counts: dict[str, Any]) -> str:
    return "unknown" if counts.get("abnormal") is None else f"{counts['abnormal']:,}"


def _number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def _skipped(run: Run) -> Html:
    if run.skipped is None:
        return paragraph("No skipped.csv: skipped files are unknown.", id="no-skipped")
    if not run.skipped:
        return paragraph("None: every file was used.")
    reasons = Counter(run.names.short(reason) for _, reason in run.skipped)
    first = {run.names.short(reason): run.names.short(image) for image, reason in reversed(run.skipped)}
    ordered = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
    rows = [[f"{reasons[reason]:,}", reason, first[reason]] for reason in ordered[:10]]
    more = len(ordered) - len(rows)
    rest = paragraph(f"{count(more, 'further reason')} in skipped.csv.", kind="soft") if more else None
    head = ["files", "reason", "first file"]
    return join(table(head, rows, "By reason, from skipped.csv", prose=head[1:]), rest)


def _audit(run: Run) -> list[Html]:
    head = tag("h3", "Audit")
    if run.audit is None:
        return [
            head,
            paragraph("No audit.json: duplicates and shared patients were not searched for.", id="no-audit"),
        ]
    found = {key: _finding(run, run.audit[key], words) for key, words in FINDINGS.items() if key in run.audit}
    lines = [tag("li", words, id=f"audit-{key.replace('_', '-')}") for key, words in found.items()]
    kinds = [
        tag("li", f"The {kind['property']} of the files alone separates {kind['of']} with an AUC of {kind['auc']:.2f}")
        for kind in run.audit.get("file_kinds", [])
        if kind.get("auc", 0) > 0.5
    ]
    sources = run.audit.get("patients_by", {})
    known = ", ".join(f"{source}: {count(images, 'image')}" for source, images in sources.items() if images)
    unknown = [tag("li", run.names.short(text)) for text in run.audit.get("cannot_know", [])]
    return [
        head,
        paragraph("Between training, validation and test, and within training:"),
        tag("ul", *lines, *kinds),
        *([paragraph(f"Patients are identified by {known}.", id="patients")] if known else []),
        *([paragraph("Not covered by the audit:"), tag("ul", *unknown)] if unknown else []),
    ]


def _finding(run: Run, found: dict[str, Any], words: tuple[str, str]) -> str:
    number = found.get("count", 0)
    if not number:
        return f"no {words[1]}"
    pairs = [map(run.names.short, example.get("images", [])[:2]) for example in found.get("examples", [])[:EXAMPLES]]
    examples = "; ".join(" and ".join(pair) for pair in pairs)
    return f"{number:,} {words[number != 1]}" + (f", for example {examples}" if examples else "")
