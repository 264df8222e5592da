"""What evaluating costs beside the network's own time: metrics, intervals, localization, groups, baselines, report.

    python benchmarks/evaluation_speed.py [--images 2000] [--threads 2]

On generated phantoms with masks, in groups of view, sex and age drawn by chance, by an untrained generator: how long
it takes does not depend on what it has learned.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import torch

from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import make_splits
from monai_sagan.data.datasets.phantom import read_phantom, write_phantom
from monai_sagan.data.unreadable import keep_readable
from monai_sagan.engines.evaluation import evaluate
from monai_sagan.files import save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.models.trained import describe_trained
from monai_sagan.networks import SaganGenerator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    half = args.images // 2
    counts = {"train_normal": 4000, "unlabeled_normal": 1600, "unlabeled_abnormal": 2400}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_phantom(folder / "data", counts=counts | {"test_normal": half, "test_abnormal": half})
        datalist = read_phantom(folder / "data")
        settings = resolve_settings("recommended", channels=8, num_res_blocks=1)
        images = ImageCache(datalist, settings.decoding(), folder / "cache")
        splits = make_splits(keep_readable(datalist, images, folder))
        draw = random.Random(0)
        for item in splits["test"]:
            item |= {"view": draw.choice(["AP", "PA"]), "sex": draw.choice("FM"), "age": draw.randrange(90)}
        network = SaganGenerator(**settings.generator())
        content = describe_trained(network, settings, images.pixels(splits["valid_normal"]), iteration=0)
        for name in ("aucp", "last"):
            save_tensors(content, folder / f"{name}.pt")
        begin = time.perf_counter()
        models = {name: folder / f"{name}.pt" for name in ("aucp", "last")}
        metrics = evaluate(models, splits, images, folder / "out")
        seconds = time.perf_counter() - begin
    own = seconds - metrics["seconds_of_networks"]
    print(f"{args.images} images, 2 models, 4 baselines: {seconds:.1f} s, of which the networks "
          f"{metrics['seconds_of_networks']:.1f} s and all else {own:.1f} s, on {args.threads} threads")  # fmt: skip


if __name__ == "__main__":
    main()
