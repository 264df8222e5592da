"""Pictures of single images: image, restored image and anomaly map side by side."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from monai_sagan.errors import SaganError
from monai_sagan.pictures.maps import map_words
from monai_sagan.report.color_bar import color_bar
from monai_sagan.report.html import Html, paragraph, section, tag
from monai_sagan.report.numbers import count, percent
from monai_sagan.runs.read import Picture, Run

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = {
    "false positive": ("Highest false positives", "Normal images above {threshold}, the highest score first."),
    "false negative": ("Lowest false negatives", "Abnormal images not above {threshold}, the lowest score first."),
    "highest": ("Highest scores", "The images that look most abnormal to the model."),
    "middle": ("Middle cases", "The other images whose scores are closest to {threshold}."),
    "lowest": ("Lowest scores", "The images that look most normal to the model."),
}
MEDIAN = "Scores around the median."
LABELS = {0: "normal", 1: "abnormal"}
WIDEST = 384  # pixels of an embedded triptych
BUDGET = 1_900_000  # bytes of all pictures together, before they grow by a third as text


def gallery_section(run: Run) -> Html:
    """The listed cases by kind, or without a list the heat maps."""
    listed = [picture for picture in run.pictures if picture.facts is not None]
    if listed:
        return section("gallery", "Gallery", *_cases(run, listed))
    if run.pictures:
        return section("gallery", "Gallery", *_heat_maps(run))
    return section("gallery", "Gallery", paragraph("The run's folder has no heatmaps to show.", id="no-heatmaps"))


def _cases(run: Run, pictures: list[Picture]) -> list[Html | None]:
    of_kind: dict[str, list[Picture]] = {kind: [] for kind in KINDS}
    for picture in pictures:
        of_kind.setdefault(str((picture.facts or {}).get("kind")), []).append(picture)
    ranked = bool(of_kind["highest"] or of_kind["lowest"])  # without threshold or labels
    parts = [*_scale(run), _outlined(pictures), _too_few(run)]
    for kind, these in of_kind.items():
        if these:
            heading, words = KINDS.get(kind, (kind.capitalize(), ""))
            shown = MEDIAN if ranked and kind == "middle" else words.replace("{threshold}", _threshold(run))
            cases = tag("div", *(_case(run, picture) for picture in these), class_="cases")
            id = f"cases-{kind.replace(' ', '-')}"
            parts += [tag("h3", heading, id=id), paragraph(shown, kind="soft", id=f"{id}-note"), cases]
    return parts


def _scale(run: Run) -> list[Html]:
    """The color scale of the maps."""
    how = run.how_maps_are_made
    top = (how or {}).get("top_of_scale")
    words = "measured on validation normals"
    if top is not None:
        words = f"up to {top:.3g}, the 99.9th percentile of the validation normals' pixels"
    note = f"Anomaly map: {map_words(how)}. All share one color scale, {words}."
    return [paragraph(note, kind="soft", id="map-scale"), *([] if top is None else [color_bar(top)])]


def _outlined(pictures: list[Picture]) -> Html | None:
    known = any((picture.facts or {}).get("lesions") for picture in pictures)
    return paragraph("Outlined on image and map: the known lesions.", kind="soft", id="outlined") if known else None


def _threshold(run: Run) -> str:
    """The name of the threshold that defines mistakes."""
    point = run.threshold
    if point is None:
        return "the threshold"
    return f"the threshold for {percent(point.get('specificity_wanted'))} specificity"


def _too_few(run: Run) -> Html | None:
    """Why the first wanted threshold is missing."""
    first = next(iter(run.chosen.get("operating_points") or []), None)
    if run.threshold is None or first is None or first.get("threshold") is not None:
        return None
    normals = count(first.get("n_valid_normal") or 0, "validation normal")
    words = f"The {normals} are too few for a threshold for {percent(first.get('specificity_wanted'))} specificity."
    return paragraph(words, kind="soft", id="too-few-normals")


def _case(run: Run, picture: Picture) -> Html:
    facts = picture.facts or {}
    name = run.names.short(facts.get("image", picture.path.name))
    label = LABELS.get(facts.get("label"), "label unknown")  # type: ignore[arg-type]
    numbers = [f"score {facts['score']:.4f}"] if isinstance(facts.get("score"), (int, float)) else []
    numbers += [f"p {facts['p_value']:.3g}"] if isinstance(facts.get("p_value"), (int, float)) else []
    numbers += [f"rank {facts['rank']:,} of {len(run.images):,}"] if isinstance(facts.get("rank"), int) else []
    names = ["image", "anomaly map"] if facts.get("restored") is False else ["image", "restored", "anomaly map"]
    words = f"{name}: {' and '.join((', '.join(names[:-1]), names[-1]))}; {label}, {', '.join(numbers)}"
    panels = tag("div", *(tag("span", panel) for panel in names), class_="panels")
    caption = [tag("b", name), " · ", ", ".join([label, *numbers])]
    if facts.get("warning"):
        caption.append(tag("span", f"; outside the training range: {facts['warning']}", class_="outside"))
    content, image = _read(picture.path)
    outlines = _outlines(image, facts["lesions"], len(names)) if facts.get("lesions") else None
    shown = tag("div", _embedded(_small(content, image), words), outlines, class_="triptych")
    return tag("figure", panels, shown, tag("figcaption", *caption), class_="case")


def _outlines(image: Image, path: str, panels: int) -> Html:
    """A path over the first and the last panel."""
    last = tag("path", d=path, transform=f"translate({(panels - 1) * image.width // panels} 0)")
    box = f"0 0 {image.width} {image.height}"
    return tag("svg", tag("path", d=path), last, viewBox=box, role="img", aria_label="outlines of the known lesions")


def _heat_maps(run: Run) -> list[Html]:
    figures, used = [], 0
    for picture in run.pictures:
        content, _ = _read(picture.path)
        used += len(content)
        if used > BUDGET:
            break
        figures.append(tag("figure", _embedded(content, picture.path.stem.replace("_", " ")), class_="picture"))
    note = "The highest, middle and lowest scores."
    more = len(run.pictures) - len(figures)
    rest = [paragraph(f"{more} more in heatmaps/.", kind="soft")] if more else []
    return [paragraph(note, kind="soft"), *_scale(run), tag("div", *figures, class_="charts"), *rest]


def _embedded(content: bytes, words: str) -> Html:
    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return tag("img", src=source, alt=words)


def _small(content: bytes, image: Image) -> bytes:
    """The file, or a smaller copy of a wide picture."""
    if image.format == "PNG" and image.width <= WIDEST:
        return content
    smaller = image.convert("RGB")
    smaller.thumbnail((WIDEST, WIDEST))
    shrunk = io.BytesIO()
    smaller.save(shrunk, "PNG", optimize=True)
    return shrunk.getvalue()


def _read(path: Path) -> tuple[bytes, Image]:
    """A picture's file and its image, fully decoded: a browser would silently show half of a truncated one."""
    import PIL.Image

    try:
        content = path.read_bytes()
        image = PIL.Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise SaganError(f"{path} is not a complete picture ({error}); evaluate the run again") from None
    return content, image
