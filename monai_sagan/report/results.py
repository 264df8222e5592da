"""The results in numbers: models and baselines, operating points, localization, groups of images."""

from __future__ import annotations

from typing import Any

from monai_sagan.pictures.maps import map_words
from monai_sagan.report.html import Html, join, paragraph, section, sentence, table, tag
from monai_sagan.report.numbers import NONE, as_text, count, fraction, interval, percent, value_and_interval
from monai_sagan.report.summary import compare_baseline, row_title
from monai_sagan.report.svg import whisker
from monai_sagan.runs.read import Run

LOCALIZATION = {
    "pixel_ap": "pixel average precision",
    "pixel_auc": "pixel AUC",
    "pro": "per-region overlap, up to a false positive rate of 0.3",
    "pointing_game": "pointing game: the map's maximum is in a lesion",
    "dice": "Dice, threshold from validation normals",
    "dice_oracle": "Dice, best threshold on the test; an upper bound",
}
COLUMNS = ("view", "sex", "age", "site")


def results_section(run: Run) -> Html:
    """The models and the baselines on one scale."""
    if not run.comparable:
        text = "AUC and AP need normal and abnormal test images with labels. "
        text += "The scores of all models and baselines, and the p-values, are in scores.csv."
        return section("results", "Results", paragraph(text, id="no-auc"))
    baselines = run.metrics.get("baselines") or {}
    blocks = {name: run.metrics[name] for name in run.models}
    others = {name: baselines[name] or {} for name in sorted(baselines)}
    bounds = _scale([*blocks.values(), *others.values()])
    rows = [_row(row_title(name, run), name, block, bounds, "first") for name, block in blocks.items()]
    rows += [_row(row_title(name, run), name, block, bounds, "plain") for name, block in others.items()]
    kinds = ["chosen", *("red" if name.startswith("oracle") else None for name in run.models[1:])]
    scale = f"AUC, from {bounds[0]:g} to {bounds[1]:g}"
    title = "Test results of the models, and of baselines on the same images"
    ids = [f"row-{name}" for name in [*blocks, *others]]
    parts = [table(["", "AUC (95 %)", "AP (95 %)", scale, "iteration"], rows, title, kinds, wide=scale, ids=ids)]
    baseline = compare_baseline(run)
    parts.append(paragraph(baseline.words, id=f"baseline-{baseline.name}"))
    normal, abnormal, _ = run.counts
    chance = f"Chance is an AUC of 0.5 and here, with {percent(abnormal / (normal + abnormal))} abnormal images, "
    parts.append(paragraph(f"{chance}an AP of {abnormal / (normal + abnormal):.3f}.", kind="soft"))
    return section("results", "Results", *parts)


def _scale(blocks: list[dict[str, Any]]) -> tuple[float, float]:
    """From the tenth below the lowest interval to 1."""
    lows = [value for block in blocks for value in ((block.get("auc_ci95") or [None])[0], block.get("auc"))]
    lowest = min((value for value in lows if value is not None), default=0.5)
    return max(int(lowest * 10 - 1e-9) / 10, 0.0), 1.0


def _row(title: str, name: str, block: dict[str, Any], bounds: tuple[float, float], kind: str) -> list[Any]:
    auc: float | None = block.get("auc")
    shown = value_and_interval(block, "auc")
    drawn: str = NONE
    if auc is not None:
        low, high = block.get("auc_ci95") or (auc, auc)
        drawn = whisker(low, auc, high, bounds, "warn" if name.startswith("oracle") else kind, f"AUC {shown}")
    iteration = f"{block['iteration']:,}" if isinstance(block.get("iteration"), int) else NONE
    return [title, _figure(block, "auc"), _figure(block, "ap"), drawn, iteration]


def _figure(block: dict[str, Any], name: str, count: str = "") -> Html:
    """The metric ``name`` of ``block``, its interval and a count."""
    bounds = interval(block.get(f"{name}_ci95"))
    return _parts(fraction(block.get(name)), f" ({bounds})" if bounds else "", count)


def _parts(*texts: str) -> Html:
    """Texts in one line, or stacked on a narrow screen."""
    return join(*(tag("span", text, class_="part") for text in texts if text))


def operating_section(run: Run) -> Html:
    """Sensitivity and specificity at thresholds that were set on validation normals."""
    points = run.chosen.get("operating_points") or []
    normal, abnormal, _ = run.counts
    if not points:
        text = "No thresholds were set on validation normals in this evaluation."
        return section("operating-points", "Operating points", paragraph(text, id="no-thresholds"), _p_values(run))
    rows = [
        [
            percent(point.get("specificity_wanted")),
            _threshold(point),
            _rate(point, "sensitivity", abnormal),
            _rate(point, "specificity", normal),
        ]
        for point in points
    ]
    head = ["specificity wanted", "threshold (validation normals)", "sensitivity (95 %)", "specificity (95 %)"]
    warnings = [paragraph(sentence(p["warning"]), kind="warning") for p in points if p.get("warning")]
    note = "Each threshold is a quantile of the scores of validation normals, set without test images. "
    note += "A score above it counts as abnormal. The intervals are of the test images at this threshold: "
    note += "other validation normals would have set another one."
    title = "At thresholds set on validation normals, measured on the test images"
    ids = [f"point-{percent(point.get('specificity_wanted')).removesuffix(' %')}" for point in points]
    parts = [table(head, rows, title, ids=ids), *warnings, paragraph(note, kind="soft"), _p_values(run)]
    return section("operating-points", "Operating points", *parts)


def _threshold(point: dict[str, Any]) -> Html:
    """The threshold, and the number of validation normals that set it."""
    value, normals = point.get("threshold"), point.get("n_valid_normal")
    return _parts(NONE if value is None else f"{value:.5f}", "" if normals is None else f" ({normals:,})")


def _rate(point: dict[str, Any], name: str, total: int) -> Html | str:
    value = point.get(name)
    return NONE if value is None else _figure(point, name, f" {round(value * total):,} of {total:,}")


def _p_values(run: Run) -> Html | None:
    if run.p_values is None:
        return None
    known = [point.get("n_valid_normal") for point in run.chosen.get("operating_points") or []]
    valid: int | None = next((number for number in known if number is not None), None)
    expected = "5 % or fewer are expected"
    if valid is not None and valid < 19:
        return paragraph(
            f"No p-value can be 0.05 or less with {count(valid, 'validation normal')}: the smallest is 1/{valid + 1}, "
            f"{percent(1 / (valid + 1))}. It takes 19 of them: train with a larger --valid_fraction.",
            id="p-values-too-few",
        )
    shares = []
    for label, words in ((0, "normal"), (1, "abnormal"), (None, "unlabeled")):
        values = [p for p, known in zip(run.p_values, run.labels, strict=True) if known == label]
        if values:
            shares.append(f"{percent(sum(p <= 0.05 for p in values) / len(values))} of the {words} test images")
    if valid is not None:  # of the n + 1 equally likely p-values of a normal image, these are 0.05 or less
        share = (valid + 1) // 20 / (valid + 1)
        expected = f"about {percent(share)} are expected with {count(valid, 'validation normal')}"
    return paragraph(f"A p-value of at most 0.05: {', '.join(shares)}; of normal images {expected}.", id="p-values")


def localization_section(run: Run) -> Html:
    """Localization metrics, where masks or boxes of lesions are known."""
    found = run.chosen.get("localization")
    if not found:
        text = "The test images have no masks or boxes of lesions: localization was not measured."
        return section("localization", "Localization", paragraph(text, id="no-localization"))
    further = sorted(key.removesuffix("_ci95") for key in set(found) - set(LOCALIZATION) if key.endswith("_ci95"))
    names = [name for name in dict.fromkeys([*LOCALIZATION, *further]) if name in found]
    rows = [
        [LOCALIZATION.get(name, name.replace("_", " ")), fraction(found[name]), interval(found.get(f"{name}_ci95"))]
        for name in names
    ]
    for rate in found.get("hit_rates") or []:
        wanted = as_text(rate.get("false_positives"))
        names.append(f"hit-rate-{wanted}")
        words = f"share of lesions hit at {wanted} false positives per image"
        rows.append([words, fraction(rate.get("hit_rate")), interval(rate.get("hit_rate_ci95"))])
    title = f"Anomaly maps of the chosen model against {found.get('truth') or 'lesions'}"
    facts = (("n_images", "images"), ("n_abnormal", "images with lesions"), ("n_regions", "lesions"))
    counts = ", ".join(f"{as_text(found[key])} {words}" for key, words in facts if key in found)
    share = found.get("abnormal_share")
    chance = "" if share is None else f" {percent(share)} of all pixels are in lesions, the pixel AP of chance."
    cut = found.get("threshold")
    dice = "" if cut is None else f" Dice counts pixels above {cut:.3g}, the top 1 % of the validation normals' pixels."
    maps = f" Anomaly map: {map_words(run.how_maps_are_made)}."
    body = table(["measure", "value", "95 % interval"], rows, title, ids=[f"localization-{name}" for name in names])
    note = paragraph(f"{counts}.{chance}{dice}{maps}", kind="soft", id="localization-note")
    return section("localization", "Localization", body, note)


def groups_section(run: Run) -> Html:
    """The results per group of images, where view, sex, age or site are known."""
    groups = run.chosen.get("groups") or {}
    names = [name for name in COLUMNS if name in groups] + sorted(set(groups) - set(COLUMNS))
    if not names:
        text = "View, sex, age and site of the test images are unknown: there are no results per group."
        return section("groups", "Groups", paragraph(text, id="no-groups"))
    rows: list[list[Any]] = []
    for column in names:
        rows.append([column])
        for group, block in groups[column].items():
            if isinstance(block, dict):
                sizes = [as_text(block.get(key, NONE)) for key in ("n_normal", "n_abnormal")]
                values = [_figure(block, name) for name in ("auc", "ap")]
                rows.append([group or "unknown", _parts(sizes[0], f" + {sizes[1]}"), *values])
    warnings = [
        sentence(run.names.short(text))
        for text in run.metrics.get("warnings", [])
        if text.startswith(tuple(f"{n} alone" for n in names))
    ]
    notes = tag("div", *(paragraph(text) for text in warnings), class_="note") if warnings else None
    head = ["group", "normal + abnormal", "AUC (95 %)", "AP (95 %)"]
    body = table(head, rows, "The chosen model on groups of the test images")
    soft = "A dash: the group has images of one kind only. AP depends on the share of abnormal images in a group."
    return section("groups", "Groups", join(notes, body), paragraph(soft, kind="soft"))
