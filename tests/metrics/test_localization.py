"""All metrics of localization together, and their intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from lesion_images import lesions, save_mask

from monai_sagan.metrics.hits import hit_rates, pointing_game
from monai_sagan.metrics.localization import bootstrap_localization, draw_weights, localization_metrics
from monai_sagan.metrics.pixels import dice, pixel_metrics
from monai_sagan.metrics.regions import regions_of_masks

METRICS = ("pixel_ap", "pixel_auc", "pro", "dice", "dice_oracle", "pointing_game")


def entry(maps, masks, tmp_path, threshold=0.6, **options):
    size = masks.shape[1]
    items = [
        {"image": str(i)} | ({"mask": save_mask(tmp_path / f"{i}.png", mask)} if mask.any() else {"boxes": []})
        for i, mask in enumerate(masks)
    ]
    return localization_metrics(maps, items, [(size, size)] * len(items), threshold, **options)


def test_entry_says_what_the_functions_say(tmp_path):
    maps, masks = lesions()
    regions = regions_of_masks(masks)
    found = entry(maps, masks, tmp_path, tolerance=1)
    assert found["truth"] == "masks"
    assert (found["n_images"], found["n_abnormal"], found["n_regions"]) == (
        20,
        masks.any((1, 2)).sum(),
        len(regions.image),
    )
    assert found["abnormal_share"] == pytest.approx(masks.mean())
    assert found | pixel_metrics(maps, regions) == found
    assert found["dice"] == dice(maps, regions, 0.6)
    assert found["pointing_game"] == pointing_game(maps, regions, 1)
    assert [rate["hit_rate"] for rate in found["hit_rates"]] == hit_rates(maps, regions, 0.6)
    assert [rate["false_positives"] for rate in found["hit_rates"]] == [0.5, 1, 2]
    for row in (*({"v": found[n], "c": found[f"{n}_ci95"]} for n in METRICS), *(
        {"v": rate["hit_rate"], "c": rate["hit_rate_ci95"]} for rate in found["hit_rates"]
    )):  # fmt: skip
        assert 0 <= row["c"][0] <= row["v"] <= row["c"][1] <= 1
    assert json.loads(json.dumps(found)) == found
    assert entry(maps, masks, tmp_path, tolerance=1) == found
    assert entry(maps, masks, tmp_path, tolerance=1, seed=1)["pro_ci95"] != found["pro_ci95"]


def test_items_without_either_are_left_out(tmp_path):
    maps = lesions(6)[0]
    extra = np.concatenate([maps, np.ones((1, 24, 24), np.float32)])
    items = [{"image": "x", "boxes": [[1, 1, 5, 5]] if i % 2 else []} for i in range(6)]
    one = localization_metrics(maps, items, [(24, 24)] * 6, 0.5, resamples=10)
    assert localization_metrics(extra, [*items, {"image": "y"}], [(24, 24)] * 7, 0.5, resamples=10) == one


@pytest.mark.parametrize("boxes", [None, []])
def test_without_lesions_nothing_is_defined(boxes):
    items = [{"image": "a"} | ({} if boxes is None else {"boxes": boxes})] * 3
    found = localization_metrics(lesions(3)[0], items, [(24, 24)] * 3, 0.5)
    assert found["truth"] == (None if boxes is None else "boxes")
    assert found["n_images"] == (0 if boxes is None else 3)
    assert found["n_regions"] == 0
    assert all(found[name] is found[f"{name}_ci95"] is None for name in METRICS)
    assert all(rate["hit_rate"] is rate["hit_rate_ci95"] is None for rate in found["hit_rates"])
    json.dumps(found, allow_nan=False)


def test_without_normal_pixels_rates_are_undefined():
    found = localization_metrics(np.ones((2, 8, 8)), [{"image": "a", "boxes": [[0, 0, 8, 8]]}] * 2, [(8, 8)] * 2, 0.5)
    assert found["pixel_auc"] is found["pro"] is found["pro_ci95"] is None
    assert found["pixel_ap"] == found["dice"] == 1
    json.dumps(found, allow_nan=False)


def test_one_image_with_lesions_has_no_interval():
    items = [{"image": "a", "boxes": [[2, 2, 9, 9]]}, {"image": "b", "boxes": []}]
    found = localization_metrics(lesions(2)[0], items, [(24, 24)] * 2, 0.5)
    assert found["pixel_ap"] > 0
    assert found["pixel_ap_ci95"] is None


def test_maps_that_are_not_finite_are_refused(refused):
    maps = np.zeros((1, 8, 8))
    maps[0, 0, 0] = np.nan
    with refused("NaN"):
        localization_metrics(maps, [{"image": "a", "boxes": [[1, 1, 3, 3]]}], [(8, 8)], 0.5)


def test_bins_cost_next_to_nothing():
    maps, masks = lesions(60, 32)
    regions = regions_of_masks(masks)
    once = bootstrap_localization(maps, regions, 0.6, np.ones((1, 60)))
    exact = pixel_metrics(maps, regions) | {
        "dice": dice(maps, regions, 0.6),
        "pointing_game": pointing_game(maps, regions),
    }
    assert {name: once[name][0] for name in exact} == pytest.approx(exact, abs=2e-3)
    for rate, expected in zip((0.5, 1, 2), hit_rates(maps, regions, 0.6), strict=True):
        assert once[f"hit_rate_{rate:g}"][0] == pytest.approx(expected, abs=0.02)


def test_weights_stand_for_repeated_images():
    maps, masks = lesions(12)
    weights = draw_weights(regions_of_masks(masks).has_lesion, 3)
    found = bootstrap_localization(maps, regions_of_masks(masks), 0.6, weights)
    for row in range(3):
        chosen = np.repeat(np.arange(12), weights[row].astype(int))
        regions = regions_of_masks(masks[chosen])
        again = pixel_metrics(maps[chosen], regions) | {"dice": dice(maps[chosen], regions, 0.6)}
        assert {name: found[name][row] for name in again} == pytest.approx(again, abs=0.01)
        assert found["pointing_game"][row] == pytest.approx(pointing_game(maps[chosen], regions))


def test_draws_keep_both_kinds_of_images():
    with_lesion = np.arange(30) % 3 == 0
    weights = draw_weights(with_lesion, 50)
    assert (weights[:, with_lesion].sum(1) == 10).all()
    assert (weights[:, ~with_lesion].sum(1) == 20).all()
    assert len(np.unique(weights, axis=0)) == 50
    np.testing.assert_array_equal(weights, draw_weights(with_lesion, 50))


def test_interval_covers_the_truth():
    """Of maps from one distribution, intervals of few images hold the value of very many, most of the time."""
    maps, masks = lesions(900, 16, seed=5)
    truth = pixel_metrics(maps, regions_of_masks(masks))["pixel_ap"]
    inside = 0
    for start in range(0, 900, 30):
        part = slice(start, start + 30)
        regions = regions_of_masks(masks[part])
        value = pixel_metrics(maps[part], regions)["pixel_ap"]
        drawn = bootstrap_localization(maps[part], regions, 0.6, draw_weights(regions.has_lesion, 200))["pixel_ap"]
        low, high = np.quantile(drawn, (0.025, 0.975))
        assert low < value < high
        inside += low <= truth <= high
    assert inside >= 24  # of 30


def test_maps_without_any_pixel_above_the_threshold():
    items = [{"image": "a", "boxes": [[1.0, 1.0, 4.0, 4.0]]}, {"image": "b", "boxes": [[2.0, 2.0, 3.0, 3.0]]}]
    items += [{"image": "c", "boxes": []}] * 2
    maps = np.random.default_rng(0).random((4, 16, 16))
    found = localization_metrics(maps, items, [(16, 16)] * 4, threshold=2.0)
    assert found["dice"] == 0
    assert [rate["hit_rate"] for rate in found["hit_rates"]] == [0, 0, 0]
    assert found["pixel_ap"] > 0
