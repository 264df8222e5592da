"""Pictures of single images, embedded in the page: image, restored image and anomaly map side by side."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from monai_sagan.errors import SaganError
from monai_sagan.report.html import Html, paragraph, section, tag
from monai_sagan.report.run_folder import Picture, Run

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["gallery_section"]

KINDS = {
    "false positive": ("Highest false positives", "Normal images above the threshold, the highest score first."),
    "false negative": ("Lowest false negatives", "Abnormal images below the threshold, the lowest score first."),
    "highest": ("Highest scores", "The images that look most abnormal to the model."),
    "middle": ("Middle cases", "Close to the threshold, or without one around the median score."),
    "lowest": ("Lowest scores", "The images that look most normal to the model."),
}
LABELS = {0: "normal", 1: "abnormal"}
WIDEST = 384  # pixels of an embedded triptych
BUDGET = 1_900_000  # bytes of all pictures together, before they grow by a third as text


def gallery_section(run: Run) -> Html:
    """The listed cases of ``run`` by kind, or where there is no list the heat maps as they are."""
    listed = [picture for picture in run.pictures if picture.facts is not None]
    if listed:
        return section("gallery", "Gallery", *_cases(run, listed))
    if run.pictures:
        return section("gallery", "Gallery", *_heat_maps(run))
    return section("gallery", "Gallery", paragraph("The run's folder has no heatmaps: there are no pictures to show."))


def _cases(run: Run, pictures: list[Picture]) -> list[Html]:
    kinds = list(dict.fromkeys([*KINDS, *(str((picture.facts or {}).get("kind")) for picture in pictures)]))
    parts = [
        paragraph("All anomaly maps are on one color scale, which was measured on validation normals.", kind="soft")
    ]
    for kind in kinds:
        these = [picture for picture in pictures if str((picture.facts or {}).get("kind")) == kind]
        if these:
            heading, words = KINDS.get(kind, (kind.capitalize(), ""))
            cases = tag("div", *(_case(run, picture) for picture in these), class_="cases")
            parts += [tag("h3", heading), paragraph(words, kind="soft"), cases]
    return parts


def _case(run: Run, picture: Picture) -> Html:
    facts = picture.facts or {}
    name = run.names.short(facts.get("image", picture.path.name))
    label = LABELS.get(facts.get("label"), "label not known")  # type: ignore[arg-type]
    numbers = [f"score {facts['score']:.4f}"] if isinstance(facts.get("score"), (int, float)) else []
    numbers += [f"p {facts['p_value']:.3g}"] if isinstance(facts.get("p_value"), (int, float)) else []
    numbers += [f"rank {facts['rank']:,} of {len(run.images):,}"] if isinstance(facts.get("rank"), int) else []
    words = f"{name}: image, restored image and anomaly map; {label}, {', '.join(numbers)}"
    panels = tag("div", *(tag("span", panel) for panel in ("image", "restored", "anomaly map")), class_="panels")
    caption = tag("figcaption", tag("b", name), " · ", ", ".join([label, *numbers]))
    return tag("figure", panels, _embedded(_small(picture.path), words), caption, class_="case")


def _heat_maps(run: Run) -> list[Html]:
    figures, used = [], 0
    for picture in run.pictures:
        content, _ = _read(picture.path)
        used += len(content)
        if used > BUDGET:
            break
        figures.append(tag("figure", _embedded(content, picture.path.stem.replace("_", " ")), class_="picture"))
    note = "The highest, middle and lowest scores, on one color scale that was measured on validation normals."
    more = len(run.pictures) - len(figures)
    rest = [paragraph(f"{more} more in heatmaps/.", kind="soft")] if more else []
    return [paragraph(note, kind="soft"), tag("div", *figures, class_="charts"), *rest]


def _embedded(content: bytes, words: str) -> Html:
    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return tag("img", src=source, alt=words)


def _small(path: Path) -> bytes:
    """A picture's file, or a smaller copy of one that is too wide for a page of many."""
    content, image = _read(path)
    if image.format == "PNG" and image.width <= WIDEST:
        return content
    smaller = image.convert("RGB")
    smaller.thumbnail((WIDEST, WIDEST))
    shrunk = io.BytesIO()
    smaller.save(shrunk, "PNG", optimize=True)
    return shrunk.getvalue()


def _read(path: Path) -> tuple[bytes, Image]:
    """A picture's file and what it shows, which must be whole: a browser would show half of one without a word."""
    import PIL.Image

    try:
        content = path.read_bytes()
        image = PIL.Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise SaganError(f"{path} is no whole picture ({error}); evaluate the run again") from None
    return content, image
