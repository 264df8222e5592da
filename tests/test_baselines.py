"""Baselines: each does what its sentence says, and none looks at what it may not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_sagan.baselines import baseline_scores
from monai_sagan.data.datasets.phantom import phantom_image

NAMES = ["mean_intensity", "pca_reconstruction", "nearest_neighbors", "linear_pu"]


@pytest.fixture(scope="module")
def phantoms():
    """Normal, unlabeled (half abnormal) and test phantoms, and the labels of the latter."""

    def draw(abnormal, start):
        images = [phantom_image(5, start + i, bool(one), 64)[0] for i, one in enumerate(abnormal)]
        return torch.from_numpy(np.stack(images))[:, None]

    labels = np.arange(80) % 2
    return draw(np.zeros(160), 0), draw(np.arange(120) % 2, 200), draw(labels, 400), labels


def patches(count, level, seed=0):
    """Noise around a level, uint8 (count, 1, 16, 16)."""
    values = np.random.default_rng(seed).normal(level, 10, (count, 1, 16, 16))
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


def test_rows_by_name(phantoms):
    rows, again = (baseline_scores(*phantoms[:3], seed=1) for _ in range(2))
    assert list(rows) == NAMES
    assert all(scores.dtype == np.float64 for scores in rows.values())
    assert all(np.array_equal(rows[name], again[name]) for name in NAMES)


def test_phantoms_are_told_apart_by_the_row_to_beat_and_not_by_their_mean(phantoms):
    normal, unlabeled, test, labels = phantoms
    aucs = {name: roc_auc_score(labels, s) for name, s in baseline_scores(normal, unlabeled, test).items()}
    assert aucs["linear_pu"] > 0.65
    assert 0.3 < aucs["mean_intensity"] < 0.7  # a lesion leaves a phantom's mean and deviation alone


def test_an_image_is_scored_by_itself(phantoms):
    normal, unlabeled, test, _ = phantoms
    whole = baseline_scores(normal, unlabeled, test)
    for name, part in baseline_scores(normal, unlabeled, test[3:6]).items():
        np.testing.assert_allclose(part, whole[name][3:6], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("unlabeled", "sign"), [(140, 1), (60, -1)])
def test_the_unlabeled_images_decide_the_sign_of_the_mean(unlabeled, sign):
    test = torch.stack([torch.full((1, 16, 16), v, dtype=torch.uint8) for v in (0, 51, 255)])
    scores = baseline_scores(patches(8, 100), patches(8, unlabeled, seed=1), test)["mean_intensity"]
    np.testing.assert_allclose(scores, sign * np.array([0, 0.2, 1]), atol=1e-6)


def test_of_equal_means_the_brighter_is_abnormal():
    same = patches(4, 100)
    assert (baseline_scores(same, same, patches(5, 100, seed=2))["mean_intensity"] > 0).all()


def test_what_normals_span_is_restored():
    rng = np.random.default_rng(0)
    directions = rng.uniform(-1, 1, (3, 1, 16, 16))
    images = 128 + np.tensordot(rng.uniform(-30, 30, (50, 3)), directions, 1)
    normal = torch.from_numpy(images.round().astype(np.uint8))
    spoiled = normal[:10].clone()
    spoiled[:, :, :4, :4] = 255
    scores = baseline_scores(normal, normal, torch.cat([normal[:10], spoiled]))["pca_reconstruction"]
    assert scores[:10].max() < (1 / 255) ** 2  # nothing but rounding is left
    assert scores[10:].min() > 0.005


def test_distance_to_the_nearest_normals():
    levels = torch.tensor([0, 1, 2, 16, 18, 20, 22, 24], dtype=torch.uint8)  # the nearest five are the last
    normal = levels[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    test = torch.full((1, 1, 4, 4), 30, dtype=torch.uint8)
    found = baseline_scores(normal, normal, test)["nearest_neighbors"]
    np.testing.assert_allclose(found, 4 * 10 / 255, rtol=1e-4)  # 16 pixels: 4 times the mean difference


def test_larger_images_are_averaged_first():
    small = patches(6, 90)
    large = small.repeat_interleave(16, 2).repeat_interleave(16, 3)  # 256 x 256; averaged down to 128 x 128
    found, wanted = (baseline_scores(images[:4], images, images) for images in (large, small))
    for name, tolerance in (("mean_intensity", 1e-5), ("pca_reconstruction", 1e-3)):
        np.testing.assert_allclose(found[name], wanted[name], rtol=tolerance, atol=1e-7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("counts", [(2, 1, 1), (3, 2, 0), (70, 1, 4)])
def test_few_images(counts, channels, random_pixels):
    parts = [random_pixels(count, channels, 16, seed=i) for i, count in enumerate(counts)]
    rows = baseline_scores(*parts)
    assert list(rows) == NAMES
    assert all(scores.shape == (counts[2],) and np.isfinite(scores).all() for scores in rows.values())


@pytest.mark.filterwarnings("error")
def test_constant_images():
    constant = torch.full((6, 1, 16, 16), 7, dtype=torch.uint8)
    for name, scores in baseline_scores(constant, constant, constant).items():
        assert np.isfinite(scores).all(), name
        assert len(set(scores)) == 1, name


@pytest.mark.parametrize(("normal", "unlabeled", "kind"), [(1, 4, "normal"), (4, 0, "unlabeled")])
def test_too_few_training_images(normal, unlabeled, kind, random_pixels, refused):
    with refused(kind, "training images"):
        baseline_scores(random_pixels(normal), random_pixels(unlabeled), random_pixels(2))


def test_many_images_are_read_part_by_part():
    """The parts change nothing; what the PCA is fitted on has a limit, and is drawn by the seed."""
    draw = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=draw) for count in (40, 30, 20)]
    whole, parts = baseline_scores(*images), baseline_scores(*images, part=7 * 256)
    for name, scores in whole.items():
        np.testing.assert_allclose(parts[name], scores, rtol=1e-4, atol=1e-4)
    first, second = (baseline_scores(*images, part=7 * 256, fitted=30 * 256) for _ in range(2))
    for name, scores in first.items():
        np.testing.assert_array_equal(scores, second[name])
    assert not np.allclose(first["pca_reconstruction"], whole["pca_reconstruction"])
