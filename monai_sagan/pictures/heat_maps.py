"""Heat maps: image, restored image and anomaly map side by side, on one color scale per run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_sagan import run_files
from monai_sagan.data.datasets.items import Item
from monai_sagan.data.formats.workers import one_line
from monai_sagan.files import build_folder, shorten_name, write_text
from monai_sagan.pictures.cases import pick_cases
from monai_sagan.pictures.maps import COLORS, how_maps_are_made, map_words
from monai_sagan.pictures.notice import RESEARCH_ONLY, add_notice
from monai_sagan.pictures.outlines import lesion_outlines, svg_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from monai_sagan.data.array_store import StoredImages
    from monai_sagan.models.trained import Trained

TITLES = ("image", "restored", "anomaly map")
LONGEST = 60  # signs of a file's name that the width of a picture has room for
OUTLINE = "#7fe7ff"  # of known lesions: no grey, and no color of the maps
NO_LESIONS = np.zeros((0, 4))


def pick_images(scores: Tensor, count: int = 4) -> list[int]:
    """The images with the highest, the middle and the lowest scores (N,), ``count`` of each, highest first."""
    order = scores.argsort(descending=True, stable=True).tolist()
    middle, low = max((len(order) - count) // 2, 0), max(len(order) - count, 0)
    picked = order[:count] + order[middle : middle + count] + order[low:]
    return list(dict.fromkeys(picked))


def triptychs(image: Tensor, restored: Tensor | None, anomaly_map: Tensor, scale: float) -> Tensor:
    """Images (B, C, H, W) in [-1, 1] with their maps side by side, in color: (B, 3, H, 3 W) in [0, 1].

    ``scale`` is the map's value at the top of the color scale. Without restored images they are two panels, 2 W wide.
    """
    from matplotlib import colormaps

    colors = torch.tensor(colormaps[COLORS](range(256))[:, :3], dtype=torch.float32, device=image.device)
    level = (anomaly_map[:, 0] / max(scale, 1e-12) * 255).clamp(0, 255).long()
    shown = [image] if restored is None else [image, restored]
    grey = [((x + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1) for x in shown]
    return torch.cat([*grey, colors[level].permute(0, 3, 1, 2)], dim=3)


def write_heatmaps(
    folder: str | Path,
    trained: Trained,
    pixels: Tensor | StoredImages,
    items: Sequence[Item],
    scores: Tensor,
    count: int = 4,
) -> list[Path]:
    """Write a PNG for each of `pick_images`, with its rank, label and score; known lesions are outlined.

    The color scale is the model's, measured on validation normals. An earlier folder is replaced atomically.
    """
    folder = Path(folder)
    ranks = {index: rank for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), 1)}
    picked = pick_images(scores, count)
    words = map_words(how_maps_are_made(trained.settings, trained.scale))
    names = []
    with build_folder(folder, replace=True) as draft:
        for index in picked:
            image, found = next(trained.batches(pixels[index : index + 1]))
            item = items[index]
            image_name = Path(item["image"])
            name = f"{ranks[index]:0{len(str(len(scores)))}d}_{_kind(item)}_{shorten_name(image_name.stem)}.png"
            rank = f"{ranks[index]} of {len(scores)}"
            title = f"{_short(image_name.name)} ({_kind(item)}): score {scores[index]:.4f}, {rank}"
            lesions = lesion_outlines(item, *pixels.shape[-2:])
            _draw(draft / name, (image, found.restored, found.anomaly_map), trained.scale, title, words, lesions)
            names.append(folder / name)
    return names


def write_gallery(
    folder: str | Path,
    trained: Trained,
    pixels: Tensor,
    items: Sequence[Item],
    scores: Tensor,
    p_values: Tensor,
    threshold: float | None,
    count: int = 8,
    warnings: Sequence[str] | None = None,
) -> None:
    """Write ``gallery/``: the cases of `pick_cases` as triptychs, and ``gallery.json`` with their facts.

    Where lesions are known, ``lesions`` is an SVG path of their outlines in the image's pixels.
    """
    from PIL import Image

    place = Path(folder) / run_files.GALLERY
    place.mkdir(parents=True, exist_ok=True)
    ranks = {index: rank for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), 1)}
    cases = pick_cases(scores.tolist(), [item["label"] for item in items], threshold, count)
    facts = []
    for index, kind in cases:
        image, found = next(trained.batches(pixels[index : index + 1]))
        picture = triptychs(image, found.restored, found.anomaly_map, trained.scale)[0].permute(1, 2, 0)
        name = f"{ranks[index]:0{len(str(len(scores)))}d}.png"
        add_notice(Image.fromarray((picture * 255).round().byte().cpu().numpy())).save(place / name)
        facts.append(
            {
                "file": name,
                "image": items[index]["image"],
                "label": items[index]["label"],
                "score": float(scores[index]),
                "p_value": float(p_values[index]),
                "kind": kind,
                "rank": ranks[index],
                "warning": warnings[index] if warnings else "",
            }
            | ({"restored": False} if found.restored is None else {})
            | ({"lesions": path} if (path := svg_path(lesion_outlines(items[index], *pixels.shape[-2:]))) else {})
        )
    write_text(place / run_files.CASES, json.dumps(facts, indent=1) + "\n")


def _short(name: str) -> str:
    """A file's name on one line of valid UTF-8, which matplotlib needs, shortened in its middle."""
    text = one_line(name.encode("utf-8", "backslashreplace").decode("utf-8"))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-(LONGEST // 2) :]}"


def _kind(item: Item) -> str:
    return {0: "normal", 1: "abnormal"}.get(item["label"], "unlabeled")


def _draw(
    path: Path,
    tensors: tuple[Tensor, Tensor | None, Tensor],
    scale: float,
    title: str,
    words: str = "",
    lesions: NDArray[Any] = NO_LESIONS,
) -> None:
    *images, anomaly_map = (part[0].permute(1, 2, 0).squeeze(-1).cpu().numpy() for part in tensors if part is not None)
    figure, panels = _figure(images[0].shape, scale, words, len(images) == 2)
    for panel, values in zip(panels, [*((image + 1) / 2 for image in images), anomaly_map], strict=True):
        panel.set_data(values)
    for panel in (panels[0], panels[-1]):
        outlines: Any = panel.axes.collections[0]
        outlines.set_segments(lesions.reshape(-1, 2, 2) - 0.5)  # of pixels' corners; a pixel's center is a whole number
    figure.suptitle(title, y=0.98, fontsize=10, parse_math=False)  # a file's name may hold any sign
    figure.savefig(path, metadata={"Software": None, "Title": title})


@lru_cache(maxsize=1)
def _figure(shape: tuple[int, ...], scale: float, words: str, restored: bool = True) -> tuple[Figure, list[AxesImage]]:
    """The figure for images of a shape and its panels, for all pictures of a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=110)
    FigureCanvasAgg(figure)
    panels = []
    for place, name in enumerate(TITLES):
        if name == "restored" and not restored:
            continue
        axis = figure.add_axes((0.01 + 0.282 * place, 0.09, 0.272, 0.73))
        a_map = name == "anomaly map"
        empty = np.zeros(shape[:2] if a_map else shape)
        top, colors = (scale, COLORS) if a_map else (1, "gray")
        panels.append(axis.imshow(empty, cmap=colors, vmin=0, vmax=top, interpolation="nearest"))
        axis.add_collection(LineCollection([], colors=OUTLINE, capstyle="projecting"), autolim=False)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    bar = figure.colorbar(panels[-1], cax=figure.add_axes((0.865, 0.14, 0.014, 0.63)), extend="max")
    bar.ax.tick_params(labelsize=9)
    lines = [*words.split(", "), "scale: 99.9 % of validation normals' pixels"]
    bar.set_label("\n".join(lines), fontsize=8)
    figure.supxlabel(RESEARCH_ONLY, y=0.02, fontsize=8)
    return figure, panels
