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

from monai_sagan.engines.trained import load_trained

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
    """A column an image: the image, its restored version, and its anomaly map with the drawn opacities outlined."""
    trained = load_trained(run / "model.pt")
    masks = {item["image"]: item.get("mask") for item in json.loads((run / "splits.json").read_text())["test"]}
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(row["image"])))[None] for row in rows])
    image, restored, maps = next(trained.restore(pixels))
    figure = Figure(figsize=(8.3, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.0)
    axes: Any = figure.subplots(3, len(rows))
    for column, row in enumerate(rows):
        for axis, shown in zip(axes[:2, column], (image, restored), strict=True):
            axis.imshow(shown[column, 0], cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        colors = axes[2, column].imshow(
            maps[column, 0], cmap="inferno", vmin=0, vmax=trained.scale, interpolation="nearest"
        )
        if masks[row["image"]]:
            outline = np.array(Image.open(masks[row["image"]])) > 0
            axes[2, column].contour(outline, levels=[0.5], colors="#7fe7ff", linewidths=0.9)
        axes[0, column].set_title(f"{KINDS[int(row['label'])]}\nscore {float(row['score']):.3f}", fontsize=9, color=INK)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, name in zip(axes[:, 0], ("image", "restored", "anomaly map"), strict=True):
        axis.set_ylabel(name, fontsize=9, color=INK)
    bar = figure.colorbar(colors, ax=axes[2, :], shrink=0.9, pad=0.01, extend="max", aspect=12)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.outline.set_visible(False)
    figure.savefig(output, transparent=True, metadata={"Software": None}, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
