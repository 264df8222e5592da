"""The rows to beat: those of `monai_sagan.baselines`, on the very splits and pixels that SAGAN sees.

    python benchmarks/rivals.py DATASET_DIR [--anomaly_ratio 0.6] [--seeds 0 1 2]

The dataset is in the Med-AD layout.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.baselines import baseline_scores
from monai_sagan.data.cache import HowToDecode, ImageCache
from monai_sagan.data.datalist import make_splits
from monai_sagan.data.datasets.med_ad import read_med_ad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir")
    parser.add_argument("--anomaly_ratio", type=float)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    datalist = read_med_ad(args.dataset_dir).datalist
    with tempfile.TemporaryDirectory() as cache_dir:
        cache = ImageCache(datalist, HowToDecode((64, 64)), cache_dir)
        for seed in args.seeds:
            splits = make_splits(datalist, args.anomaly_ratio, seed=seed)
            parts = [cache.pixels(splits[name]) for name in ("train_normal", "train_unlabeled", "test")]
            labels = [item["label"] for item in splits["test"]]
            begun = time.monotonic()
            rows = baseline_scores(*parts, seed=seed)
            seconds = time.monotonic() - begun
            for name, scores in rows.items():
                auc, ap = roc_auc_score(labels, scores), average_precision_score(labels, scores)
                print(f"seed {seed}: {name:20} AUC {auc:.4f}, AP {ap:.4f}")
            print(f"seed {seed}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
