"""How well pixels separate lesions from the rest."""

from __future__ import annotations

import numpy as np
import pytest
from lesion_images import lesions, square
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score, roc_curve

from monai_sagan.metrics.pixels import dice, pixel_metrics
from monai_sagan.metrics.regions import regions_of_masks


@pytest.mark.parametrize("ties", [False, True])
def test_pixels_agree_with_scikit_learn(ties):
    for seed in range(3):
        maps, masks = lesions(10, seed=seed)
        maps = np.round(maps, 1) if ties else maps
        found = pixel_metrics(maps, regions_of_masks(masks))
        truth, values = masks.ravel(), maps.ravel()
        assert found["pixel_auc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
        assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-12)
        precision, recall, _ = precision_recall_curve(truth, values)
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert found["dice_oracle"] == pytest.approx(best, abs=1e-12)
        assert dice(maps, regions_of_masks(masks), 0.6) == pytest.approx(f1_score(truth, values > 0.6), abs=1e-12)


def test_pro_is_the_area_below_the_lesions_mean_coverage():
    maps, masks = lesions(8)
    regions = regions_of_masks(masks)
    parts = [regions.pixels[regions.lesion == r] for r in range(len(regions.image))]
    fpr, _, levels = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    covered = np.mean([[(maps.flat[part] >= level).mean() for level in levels] for part in parts], axis=0)
    grid = np.linspace(0, 0.3, 20001)
    expected = np.interp(grid, fpr, covered).mean()
    assert pixel_metrics(maps, regions)["pro"] == pytest.approx(expected, abs=2e-3)


def test_pro_counts_lesions_alike_whatever_their_size():
    masks = square(1, 16, [(0, 0, 0, 8, 8), (0, 12, 12, 1, 1)])
    large, small = masks.copy().astype(float), np.zeros(masks.shape)
    large[0, 12, 12], small[0, 12, 12] = 0, 1
    regions = regions_of_masks(masks)
    # One lesion is found at once, the other with all that is left: coverage 1/2 at first, rising to 1 along the way.
    half = [pixel_metrics(maps, regions)["pro"] for maps in (large, small)]
    assert half == pytest.approx([0.5 + 0.5 * 0.15] * 2)


def test_perfect_constant_and_reversed_maps():
    masks = square(4, 16, [(0, 2, 3, 5, 4), (1, 9, 9, 4, 4)])
    regions = regions_of_masks(masks)
    perfect = pixel_metrics(masks.astype(float), regions)
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    constant = pixel_metrics(np.zeros(masks.shape), regions)
    assert constant["pixel_auc"] == pytest.approx(0.5)
    assert constant["pixel_ap"] == pytest.approx(masks.mean())
    assert constant["pro"] == pytest.approx(0.15)
    reverse = pixel_metrics(1.0 - masks, regions)
    assert reverse["pixel_auc"] == reverse["pro"] == 0


def test_ranks_alone_matter():
    maps, masks = lesions()
    regions = regions_of_masks(masks)
    found = pixel_metrics(maps, regions)
    assert pixel_metrics(np.exp(3 * maps.astype(np.float64)), regions) == pytest.approx(found, abs=1e-4)


def test_maps_and_regions_must_agree():
    with pytest.raises(ValueError, match="must agree"):
        dice(np.zeros((2, 8, 8)), regions_of_masks(np.zeros((2, 9, 8))), 0.5)
