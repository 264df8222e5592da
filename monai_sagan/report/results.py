"""The results in numbers: all rows side by side, operating points, where the anomaly is, groups of images."""

from __future__ import annotations

from typing import Any

from monai_sagan.pictures.maps import map_words
from monai_sagan.report.html import Html, join, paragraph, section, sentence, table, tag
from monai_sagan.report.numbers import NONE, count, fraction, interval, percent, plain, value_and_interval
from monai_sagan.report.summary import compare_baseline, model_words
from monai_sagan.report.svg import whisker
from monai_sagan.runs.read import Run

__all__ = ["groups_section", "localization_section", "operating_section", "results_section"]

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
    """SAGAN's rows of ``run`` and the trivial ones beside them, on one scale."""
    if not run.comparable:
        text = "Without normal and abnormal labels in the test there is neither AUC nor AP. "
        text += "The scores of all models and baselines, and the p-values, are in scores.csv."
        return section("results", "Results", paragraph(text))
    baselines = run.metrics.get("baselines") or {}
    blocks = {name: run.metrics[name] for name in run.models}
    trivial = {name: baselines[name] or {} for name in sorted(baselines)}
    bounds = _scale([*blocks.values(), *trivial.values()])
    rows = [_row(name, block, bounds, "first") for name, block in blocks.items()]
    rows += [_row(name, block, bounds, "plain") for name, block in trivial.items()]
    kinds = ["chosen", *("red" if name.startswith("oracle") else None for name in run.models[1:])]
    scale = f"AUC, from {bounds[0]:g} to {bounds[1]:g}"
    title = "Test results of the models, and of baselines on the same images"
    parts = [table(["", "AUC (95 %)", "AP (95 %)", scale, "iteration"], rows, title, kinds, wide=scale)]
    parts.append(paragraph(compare_baseline(run)[0]))
    normal, abnormal, _ = run.counts
    chance = f"Chance is an AUC of 0.5 and here, with {percent(abnormal / (normal + abnormal))} abnormal images, "
    parts.append(paragraph(f"{chance}an AP of {abnormal / (normal + abnormal):.3f}.", kind="soft"))
    return section("results", "Results", *parts)


def _scale(blocks: list[dict[str, Any]]) -> tuple[float, float]:
    """From the tenth below the lowest interval to 1."""
    lows = [value for block in blocks for value in ((block.get("auc_ci95") or [None])[0], block.get("auc"))]
    lowest = min((value for value in lows if value is not None), default=0.5)
    return max(int(lowest * 10 - 1e-9) / 10, 0.0), 1.0


def _row(name: str, block: dict[str, Any], bounds: tuple[float, float], kind: str) -> list[Any]:
    auc: float | None = block.get("auc")
    shown = value_and_interval(block, "auc")
    drawn: str = NONE
    if auc is not None:
        low, high = block.get("auc_ci95") or (auc, auc)
        drawn = whisker(low, auc, high, bounds, "warn" if name.startswith("oracle") else kind, f"AUC {shown}")
    iteration = f"{block['iteration']:,}" if isinstance(block.get("iteration"), int) else NONE
    return [model_words(name), _figure(block, "auc"), _figure(block, "ap"), drawn, iteration]


def _figure(block: dict[str, Any], name: str, count: str = "") -> Html:
    """The metric ``name`` of ``block``, its interval and a count."""
    bounds = interval(block.get(f"{name}_ci95"))
    return _parts(fraction(block.get(name)), f" ({bounds})" if bounds else "", count)


def _parts(*texts: str) -> Html:
    """Texts in a line, or below each other on a narrow screen."""
    return join(*(tag("span", text, class_="part") for text in texts if text))


def operating_section(run: Run) -> Html:
    """Sensitivity and specificity of ``run`` at thresholds that were set on validation normals."""
    points = run.chosen.get("operating_points") or []
    normal, abnormal, _ = run.counts
    if not points:
        text = "No thresholds were set on validation normals in this evaluation."
        return section("operating-points", "Operating points", paragraph(text), _false_alarms(run))
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
    warnings = [paragraph(sentence(point["warning"])) for point in points if point.get("warning")]
    note = "Each threshold is a quantile of the scores of validation normals; no test image took part in setting it. "
    note += (
        "A score above it counts as abnormal. The intervals are of the test images at this threshold: as many other "
    )
    note += "validation normals would have set another one."
    title = "At thresholds set on validation normals, measured on the test images"
    named = table(head, rows, title)
    return section(
        "operating-points", "Operating points", named, *warnings, paragraph(note, kind="soft"), _false_alarms(run)
    )


def _threshold(point: dict[str, Any]) -> Html:
    """The threshold, and how many validation normals set it."""
    value, normals = point.get("threshold"), point.get("n_valid_normal")
    return _parts(NONE if value is None else f"{value:.5f}", "" if normals is None else f" ({normals:,})")


def _rate(point: dict[str, Any], name: str, total: int) -> Html | str:
    value = point.get(name)
    return NONE if value is None else _figure(point, name, f" {round(value * total):,} of {total:,}")


def _false_alarms(run: Run) -> Html | None:
    if run.p_values is None:
        return None
    known = [point.get("n_valid_normal") for point in run.chosen.get("operating_points") or []]
    valid: int | None = next((number for number in known if number is not None), None)
    expected = "5 % or fewer are expected"
    if valid is not None and valid < 19:
        return paragraph(
            f"No p-value can be 0.05 or less with {count(valid, 'validation normal')}: the smallest is 1/{valid + 1}, "
            f"{percent(1 / (valid + 1))}. It takes 19 of them: train with a larger --valid_fraction."
        )
    shares = []
    for label, words in ((0, "normal"), (1, "abnormal"), (None, "unlabeled")):
        values = [p for p, known in zip(run.p_values, run.labels, strict=True) if known == label]
        if values:
            shares.append(f"{percent(sum(p <= 0.05 for p in values) / len(values))} of the {words} test images")
    if valid is not None:  # of the n + 1 equally likely p-values of a normal image, these are 0.05 or less
        share = (valid + 1) // 20 / (valid + 1)
        expected = f"about {percent(share)} are expected with {count(valid, 'validation normal')}"
    return paragraph(f"A p-value of at most 0.05: {', '.join(shares)}; of normal images {expected}.")


def localization_section(run: Run) -> Html:
    """How well the anomaly maps of ``run`` point at lesions, where masks or boxes tell."""
    found = run.chosen.get("localization")
    if not found:
        text = "No masks or boxes of lesions are known for the test images: where the maps point was not measured."
        return section("localization", "Localization", paragraph(text))
    rows = [
        [LOCALIZATION.get(name, name.replace("_", " ")), fraction(found[name]), interval(found.get(f"{name}_ci95"))]
        for name in [*LOCALIZATION, *sorted(key.removesuffix("_ci95") for key in set(found) if key.endswith("_ci95"))]
        if name in found
    ]
    rows += [
        [
            f"share of lesions hit at {plain(rate.get('false_positives'))} false positives an image",
            fraction(rate.get("hit_rate")),
            interval(rate.get("hit_rate_ci95")),
        ]
        for rate in found.get("hit_rates") or []
    ]
    unique = list({row[0]: row for row in rows}.values())
    title = f"Anomaly maps of the chosen model against {found.get('truth') or 'lesions'}"
    facts = (("n_images", "images"), ("n_abnormal", "images with lesions"), ("n_regions", "lesions"))
    counts = ", ".join(f"{plain(found[key])} {words}" for key, words in facts if key in found)
    share = found.get("abnormal_share")
    chance = "" if share is None else f" {percent(share)} of all pixels are in lesions, the pixel AP of chance."
    told = found.get("threshold")
    dice = "" if told is None else f" Dice counts pixels above {told:.3g}, where 1 % of the validation normals' are."
    maps = f" Anomaly map: {map_words(run.how_maps_are_made)}."
    body = table(["measure", "value", "95 % interval"], unique, title)
    return section("localization", "Localization", body, paragraph(f"{counts}.{chance}{dice}{maps}", kind="soft"))


def groups_section(run: Run) -> Html:
    """The results of ``run`` for each group of images, where something is known that groups them."""
    groups = run.chosen.get("groups") or {}
    names = [name for name in COLUMNS if name in groups] + sorted(set(groups) - set(COLUMNS))
    if not names:
        text = "View, sex, age and site of the test images are not known: there are no results per group."
        return section("groups", "Groups", paragraph(text))
    rows: list[list[Any]] = []
    for column in names:
        rows.append([column])
        for group, block in groups[column].items():
            if isinstance(block, dict):
                sizes = [plain(block.get(key, NONE)) for key in ("n_normal", "n_abnormal")]
                values = [_figure(block, name) for name in ("auc", "ap")]
                rows.append([group or "not known", _parts(sizes[0], f" + {sizes[1]}"), *values])
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
