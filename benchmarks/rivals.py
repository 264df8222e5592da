"""The row to beat: a linear positive-unlabeled classifier on PCA features of the very data that SAGAN sees.

    python benchmarks/rivals.py DATASET_DIR [--anomaly_ratio 0.6] [--seeds 0 1 2]

Normal training images against unlabeled ones, logistic regression on 64 principal components; tested on the test
split. The dataset is in the Med-AD layout.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import make_splits
from monai_sagan.data.med_ad import read_med_ad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset_dir")
    parser.add_argument("--anomaly_ratio", type=float)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    datalist = read_med_ad(args.dataset_dir)
    with tempfile.TemporaryDirectory() as cache_dir:
        cache = ImageCache(datalist, (64, 64), cache_dir)
        for seed in args.seeds:
            splits = make_splits(datalist, args.anomaly_ratio, seed=seed)
            parts = [
                cache.pixels(splits[n]).flatten(1).numpy() / 255 for n in ("train_normal", "train_unlabeled", "test")
            ]
            model = make_pipeline(
                PCA(args.components, random_state=0), StandardScaler(), LogisticRegression(max_iter=2000)
            )
            model.fit(np.concatenate(parts[:2]), np.repeat([0, 1], [len(parts[0]), len(parts[1])]))
            scores = model.decision_function(parts[2])
            labels = [item["label"] for item in splits["test"]]
            auc, ap = roc_auc_score(labels, scores), average_precision_score(labels, scores)
            print(f"seed {seed}: linear positive-unlabeled classifier, AUC {auc:.4f}, AP {ap:.4f}")


if __name__ == "__main__":
    main()
