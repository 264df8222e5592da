"""Baselines to stand beside every result: the same splits, the same pixels, no network.

What a trained network adds is what it scores beyond these. None of them sees a true label or a test image while it is
fitted; higher scores are more abnormal. Images come as uint8 (N, C, H, W), tensors or stored ones.
"""

from __future__ import annotations

from collections.abc import Iterator
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
FITTED = 2**24  # pixels that the PCA is fitted on; of more normal images (4,096 of 64 x 64) it takes some by the seed
MOST_PIXELS = 128  # a side; larger images are averaged down, for no baseline needs gigabytes


def baseline_scores(
    train_normal: Images, train_unlabeled: Images, test: Images, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Scores (N,) of the test images by the name of each baseline; one PCA, fitted on training normals, serves all."""
    _check_enough(train_normal, 2, "normal")
    _check_enough(train_unlabeled, 1, "unlabeled")
    pca = _fit(train_normal, seed)
    features = [_project(pca, images) for images in (train_normal, train_unlabeled, test)]
    return {
        "mean_intensity": _mean_intensity(train_normal, train_unlabeled, test),
        "pca_reconstruction": _residual(pca, test),
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


def _parts(images: Images) -> Iterator[Rows]:
    """The rows of all images, some at a time: those of many do not fit into memory together."""
    return (_rows(images[part]) for part in in_parts(len(images), images.shape, PART))


def _fit(images: Images, seed: int) -> PCA:
    from sklearn.decomposition import PCA

    if len(images) > (most := max(FITTED // _rows(images[:1]).size, 2)):
        images = images[np.sort(np.random.default_rng(seed).choice(len(images), most, replace=False))]
    rows = np.empty((len(images), _rows(images[:1]).size), np.float32)
    for part in in_parts(len(images), images.shape, PART):
        rows[part] = _rows(images[part])
    count = min(COMPONENTS, len(rows) - 1, rows.shape[1])  # n images span n - 1 directions about their mean
    pca: PCA = PCA(count, copy=False, svd_solver="randomized", iterated_power=2, random_state=seed)
    with np.errstate(invalid="ignore"):  # constant images have no variance to take shares of
        return pca.fit(rows)


def _project(pca: PCA, images: Images) -> Rows:
    return np.concatenate([np.zeros((0, pca.n_components_), np.float32), *map(pca.transform, _parts(images))])


def _mean_intensity(train_normal: Images, train_unlabeled: Images, test: Images) -> Scores:
    """An image's mean (N,) in [0, 1], or minus it where darker is more abnormal.

    The sign rule: that side is abnormal on which the unlabeled training images lie of the normal ones, on average;
    brighter where both are equal. No label but "known to be normal" decides it.
    """
    normal, unlabeled, means = (_means(images) for images in (train_normal, train_unlabeled, test))
    return -means if unlabeled.mean() < normal.mean() else means


def _means(images: Images) -> Scores:
    return np.concatenate([np.zeros(0), *(rows.mean(axis=1, dtype=np.float64) for rows in _parts(images))])


def _residual(pca: PCA, images: Images) -> Scores:
    """Mean squared difference (N,) between images in [0, 1] and their projection on the normals' first components."""
    found = [np.zeros(0)]
    for rows in _parts(images):
        difference = rows - (pca.transform(rows) @ pca.components_ + pca.mean_)
        found.append(np.square(difference).mean(axis=1, dtype=np.float64))
    return np.concatenate(found)


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

    A classifier of positive and unlabeled data: with every unlabeled image taken for abnormal it still ranks by how
    abnormal an image is. Source: Elkan and Noto 2008, https://doi.org/10.1145/1401890.1401920.
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
