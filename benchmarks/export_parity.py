"""Do exported models score as the checkpoint does, and how fast are they?

    python benchmarks/export_parity.py RUN_DIR DATASET_DIR [--formats onnx ...] [--limit 500] [--threads 1]

The model that RUN_DIR chose without labels, exported to each format in a temporary folder, on the test images of a
dataset in the Med-AD layout. The artifacts get each file's own pixels, decoded but not resized; the checkpoint gets
what the cache makes of them, as in an evaluation. Columns: greatest difference from the checkpoint's scores, maps and
p-values; whether the order of all scores is the same; images a second, resizing included, one at a time and 32 at a
time; seconds to open with all hashes and the cases that are checked at load; the model file's size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.export import export_artifact
from monai_sagan.data.cache import load_image
from monai_sagan.data.datasets.med_ad import read_med_ad
from monai_sagan.data.formats.decode import read_image
from monai_sagan.errors import show_errors_in_one_line
from monai_sagan.metrics import conformal_p_values
from monai_sagan.models.facts import FORMATS
from monai_sagan.models.trained import Trained, load_trained
from monai_sagan.transforms.functional import anomaly_score

BATCH = 32


def main() -> None:
    show_errors_in_one_line()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--limit", type=int, help="test images (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trained = load_trained(args.run_dir / "model.pt")
    paths = [item["image"] for item in read_med_ad(args.dataset_dir).datalist["test"]][: args.limit]
    mode = "L" if trained.settings.in_channels == 1 else "RGB"
    images = [np.atleast_3d(np.asarray(read_image(path).convert(mode))).transpose(2, 0, 1) for path in paths]
    expected = _by_checkpoint(trained, paths)
    print(f"{len(paths)} test images, {args.threads} threads, torch {torch.__version__}\n")
    print("| format | scores differ by | order | Spearman | maps | p-values | images/s, 1 | 32 | opens in s | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.formats:
        with tempfile.TemporaryDirectory() as scratch:
            folder = export_artifact(args.run_dir, Path(scratch) / name, name)
            print(f"| {name} | {_row(folder, images, expected, args.threads)} |", flush=True)


def _by_checkpoint(trained: Trained, paths: list[str]) -> dict[str, Any]:
    seen = torch.from_numpy(np.stack([load_image(path, trained.settings.decoding()) for path in paths]))
    maps = torch.cat([found.anomaly_map for _, found in trained.batches(seen)])
    scores = anomaly_score(maps).numpy()
    p_values = conformal_p_values(trained.valid_normal_scores.numpy(), scores)
    return {"image": seen.numpy(), "anomaly_map": maps.numpy(), "score": scores, "p_value": p_values}


def _row(folder: Path, images: list[Any], expected: dict[str, Any], threads: int) -> str:
    begin = time.perf_counter()
    artifact = open_artifact(folder, threads=threads)
    opened = time.perf_counter() - begin
    begin = time.perf_counter()
    outputs = [artifact.run(image[None]) for image in images]
    single = len(images) / (time.perf_counter() - begin)
    batches = [list(group) for _, group in groupby(images, key=lambda image: image.shape)]
    begin = time.perf_counter()
    for group in batches:
        for start in range(0, len(group), BATCH):
            artifact.run(np.stack(group[start : start + BATCH]))
    together = len(images) / (time.perf_counter() - begin)
    found = {name: np.concatenate([output[name] for output in outputs]) for name in expected}
    assert np.array_equal(found["image"], expected["image"]), "the resized images differ"
    worst = {name: np.abs(found[name] - expected[name]).max() for name in ("score", "anomaly_map", "p_value")}
    order = "same" if np.array_equal(np.argsort(found["score"]), np.argsort(expected["score"])) else "other"
    speed = f"{single:.0f} | {together:.0f} | {opened:.2f}"
    size = (folder / FORMATS[artifact.format]).stat().st_size / 1e6
    return (
        f"{worst['score']:.1e} | {order} | {spearmanr(found['score'], expected['score'])[0]:.6f} | "
        f"{worst['anomaly_map']:.1e} | {worst['p_value']:.1e} | {speed} | {size:.1f}"
    )


if __name__ == "__main__":
    main()
