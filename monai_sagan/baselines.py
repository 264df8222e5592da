"""Baselines for every result: the same splits and pixels, no network.

None of them is fitted with true labels or test images. Images are uint8 (N, C, H, W), tensors or stored ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.data.array_store import StoredImages, in_parts
from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from sklearn.decomposition import PCA
    from torch import Tensor

    Images = Tensor | StoredImages

__all__ = ["baseline_scores"]

Scores = NDArray[np.float64]
Rows = NDArray[np.float32]

COMPONENTS = 64
NEIGHBORS = 5
PART = 2**20  # pixels at a time
FITTED = 2**24  # pixels that the PCA is fitted on, 4,096 images of 64 x 64
MOST_PIXELS = 128  # a side; larger images are averaged down to save memory


def baseline_scores(
    train_normal: Images, train_unlabeled: Images, test: Images, seed: int = 0, part: int = PART, fitted: int = FITTED
) -> dict[str, Scores]:
    """Scores (N,) of the test images by baseline, higher for more abnormal ones; all share a PCA of training normals.

    Images are read ``part`` pixels at a time; the PCA is fitted on at most ``fitted`` pixels, drawn by the seed.

    >>> import torch
    >>> draw = torch.Generator().manual_seed(0)
    >>> images = [torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=draw) for count in (8, 6, 4)]
    >>> {name: scores.shape for name, scores in baseline_scores(*images).items()}
    {'mean_intensity': (4,), 'pca_reconstruction': (4,), 'nearest_neighbors': (4,), 'linear_pu': (4,)}
    """
    _check_enough(train_normal, 2, "normal")
    _check_enough(train_unlabeled, 1, "unlabeled")
    groups = (train_normal, train_unlabeled, test)
    pca = _fit(train_normal, seed, part, fitted)
    features = [_by_parts(pca.transform, images, part) for images in groups]
    return {
        "mean_intensity": _mean_intensity(*(_by_parts(_means, images, part) for images in groups)),
        "pca_reconstruction": _by_parts(partial(_residual, pca), test, part),
        "nearest_neighbors": _neighbor_distance(features[0], features[2]),
        "linear_pu": _linear_pu(*features),
    }


def _check_enough(images: Images, least: int, kind: str) -> None:
    if len(images) < least:
        raise SaganError(f"the baselines need {least} or more {kind} training images; there are {len(images)}")


def _rows(images: Tensor) -> Rows:
    """A row of pixels in [0, 1] for each image."""
    from torch.nn.functional import avg_pool2d

    factor = -(-max(images.shape[-2:]) // MOST_PIXELS)
    pixels = avg_pool2d(images.float(), factor, ceil_mode=True) if factor > 1 else images
    return np.asarray(pixels.flatten(1).numpy(), np.float32) / np.float32(255)


def _by_parts(function: Callable[[Rows], Any], images: Images, part: int) -> Any:
    """The results of the rows of all images, some at a time: those of many do not fit into memory together."""
    found = [function(_rows(images[some])) for some in in_parts(len(images), images.shape, part)]
    return np.concatenate(found) if found else np.zeros(0)


def _fit(images: Images, seed: int, part: int, fitted: int) -> PCA:
    from sklearn.decomposition import PCA

    if len(images) > (most := max(fitted // _rows(images[:1]).size, 2)):
        images = images[np.sort(np.random.default_rng(seed).choice(len(images), most, replace=False))]
    rows = np.empty((len(images), _rows(images[:1]).size), np.float32)
    for some in in_parts(len(images), images.shape, part):
        rows[some] = _rows(images[some])
    count = min(COMPONENTS, len(rows) - 1, rows.shape[1])  # n images span n - 1 directions about their mean
    pca: PCA = PCA(count, copy=False, svd_solver="randomized", iterated_power=2, random_state=seed)
    with np.errstate(invalid="ignore"):  # constant images have no variance to take shares of
        return pca.fit(rows)


def _means(rows: Rows) -> Scores:
    return np.asarray(rows.mean(axis=1, dtype=np.float64))


def _mean_intensity(normal: Scores, unlabeled: Scores, means: Scores) -> Scores:
    """The images' means, or minus these where the unlabeled training images are darker than the normal ones."""
    return -means if unlabeled.mean() < normal.mean() else means


def _residual(pca: PCA, rows: Rows) -> Scores:
    """Mean squared difference (N,) between images in [0, 1] and their projection on the normals' first components."""
    difference = rows - pca.inverse_transform(pca.transform(rows))
    return np.asarray(np.square(difference).mean(axis=1, dtype=np.float64))


def _neighbor_distance(normal: Rows, features: Rows) -> Scores:
    """Mean distance (N,) to the nearest training normals, in the space of the normals' first components."""
    from sklearn.neighbors import NearestNeighbors

    if not len(features):
        return np.zeros(0)
    nearest: Any = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(normal)), algorithm="brute").fit(normal)
    distances, _ = nearest.kneighbors(features)
    return np.asarray(distances.mean(axis=1, dtype=np.float64))


def _linear_pu(normal: Rows, unlabeled: Rows, features: Rows) -> Scores:
    """Log-odds (N,) of a logistic regression of normal against unlabeled training images, on principal components.

    Trained as if every unlabeled image were abnormal, it still ranks images correctly: Elkan and Noto 2008,
    https://doi.org/10.1145/1401890.1401920.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not len(features):
        return np.zeros(0)
    is_unlabeled = np.repeat([0, 1], [len(normal), len(unlabeled)])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.concatenate([normal, unlabeled]), is_unlabeled)
    return np.asarray(model.decision_function(features), np.float64)
