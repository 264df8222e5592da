"""The picture of README and docs, of generated images only, from a trained run of the phantom bundle.

    python docs/make_pictures.py runs/phantom

Of the abnormal and of the normal test images it shows those at the upper quartile, the median and the lower quartile
of the scores: none is picked by hand.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from monai_sagan.models.trained import load_trained

QUARTILES = (0.75, 0.5, 0.25)
KINDS = {1: "with opacities", 0: "normal"}
INK = "#7d8590"  # read on white and on black: the picture has no background of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output_dir of bundles/phantom/train.json")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "phantoms.png")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw(args.run, chosen(args.run / "scores.csv"), args.output)
    print(args.output)


def chosen(scores: Path) -> list[dict[str, str]]:
    """The rows of ``scores.csv`` to show, abnormal ones first."""
    with scores.open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["score"]))
    groups = [[row for row in rows if row["label"] == str(label)] for label in KINDS]
    return [group[round(share * (len(group) - 1))] for group in groups for share in QUARTILES]


def draw(run: Path, rows: list[dict[str, str]], output: Path) -> None:
    """Restore the images of ``rows`` and show them, with the drawn opacities outlined on their anomaly maps."""
    trained = load_trained(run / "model.pt")
    masks = {item["image"]: item.get("mask") for item in json.loads((run / "splits.json").read_text())["test"]}
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(row["image"])))[None] for row in rows])
    image, found = next(trained.batches(pixels))
    tiles = zip(*(part[:, 0].numpy() for part in (image, found.restored, found.anomaly_map)), strict=True)
    outlines = [np.array(Image.open(mask)) > 0 if (mask := masks[row["image"]]) else None for row in rows]
    lay_out(rows, list(tiles), outlines, trained.scale, output)


def lay_out(rows: list[dict[str, str]], tiles: list[Any], outlines: list[Any], scale: float, output: Path) -> None:
    """A line for each kind, low enough for the first screen: of each case the image, its restored version, its map."""
    cases = len(rows) // len(KINDS)
    figure = Figure(figsize=(8.5, 1.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.01, w_pad=0.01, hspace=0.02, wspace=0.0)
    grid = figure.add_gridspec(len(KINDS), 4 * cases - 1, width_ratios=([1, 1, 1, 0.14] * cases)[:-1])
    for place, (row, shown, outline) in enumerate(zip(rows, tiles, outlines, strict=True)):
        line, case = divmod(place, cases)
        axes: list[Any] = [figure.add_subplot(grid[line, 4 * case + part]) for part in range(3)]
        for axis, tile in zip(axes[:2], shown[:2], strict=True):
            axis.imshow(tile, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        colors = axes[2].imshow(shown[2], cmap="inferno", vmin=0, vmax=scale, interpolation="nearest")
        if outline is not None:
            axes[2].contour(outline, levels=[0.5], colors="#7fe7ff", linewidths=0.8)
        axes[0].set_ylabel(f"{KINDS[int(row['label'])]}\nscore {float(row['score']):.3f}", fontsize=7, color=INK)
        for axis, name in zip(axes, ("image", "restored", "anomaly map"), strict=True):
            axis.set(xticks=[], yticks=[], anchor="C")
            axis.spines[:].set_visible(False)
            if line == 0:
                axis.set_title(name, fontsize=7, color=INK, pad=2)
    bar = figure.colorbar(colors, ax=figure.axes, shrink=0.9, pad=0.005, extend="max", aspect=22)
    bar.ax.tick_params(labelsize=6, colors=INK)
    bar.outline.set_visible(False)
    figure.savefig(output, transparent=True, metadata={"Software": None}, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
