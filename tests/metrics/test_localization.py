"""Whether anomaly maps are high where the lesions are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score, roc_curve

from monai_sagan.metrics.localization import (
    bootstrap_localization,
    dice,
    draw_weights,
    hit_rates,
    localization_metrics,
    pixel_metrics,
    pixel_threshold,
    pointing_game,
    read_regions,
    regions_of_boxes,
    regions_of_masks,
)

METRICS = ("pixel_ap", "pixel_auc", "pro", "dice", "dice_oracle", "pointing_game")


def lesions(count=20, size=24, seed=0):
    """Masks of blobs, in every second image, and maps of noise that are somewhat higher within them."""
    draw = np.random.default_rng(seed)
    blobs = gaussian_filter(draw.standard_normal((count, size, size)), (0, 2, 2))
    masks = (blobs > 0.25) & (np.arange(count) % 2 == 1)[:, None, None]
    maps = gaussian_filter(draw.random((count, size, size)), (0, 1, 1)) + 0.15 * masks
    return maps.astype(np.float32), masks


def square(count=4, size=16, inside=((0, 2, 3, 5, 4),)):
    masks = np.zeros((count, size, size), dtype=bool)
    for image, x, y, w, h in inside:
        masks[image, y : y + h, x : x + w] = True
    return masks


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


def test_pointing_game_by_hand():
    masks = square(3, 16, [(0, 2, 3, 5, 4), (1, 2, 3, 5, 4)])
    maps = np.zeros((3, 16, 16))
    maps[0, 4, 4] = maps[1, 3, 8] = maps[2, 0, 0] = 1  # inside; two columns beside; no lesion there
    regions = regions_of_masks(masks)
    assert pointing_game(maps, regions) == 0.5
    assert [pointing_game(maps, regions, tolerance=t) for t in (1, 1.9, 2, 3)] == [0.5, 0.5, 1, 1]
    assert pointing_game(np.ones((3, 16, 16)), regions) == pytest.approx(20 / 256)


def test_tolerance_stays_within_the_image():
    masks = square(2, 8, [(0, 0, 0, 8, 8)]) | square(2, 8, [(1, 7, 7, 1, 1)])
    maps = np.zeros((2, 8, 8))
    maps[:, 0, 0] = 1
    assert pointing_game(maps, regions_of_masks(masks), tolerance=4) == 0.5


def test_hit_rates_by_hand():
    masks = square(4, 16, [(0, 2, 2, 4, 4), (0, 10, 10, 3, 3), (1, 5, 5, 4, 4)])
    maps = np.zeros((4, 16, 16))
    maps[0, 3, 3], maps[0, 5, 3] = 0.9, 0.8  # two candidates in one lesion: one hit, no false positive
    maps[0, 11, 11] = 0.5
    maps[2, 1, 1], maps[2, 9, 9], maps[3, 0, 15] = 0.7, 0.6, 0.4
    regions = regions_of_masks(masks)
    # In falling order: hit .9, false .7, false .6, hit .5, false .4; the third lesion has no candidate.
    assert hit_rates(maps, regions, 0.1, (0, 0.25, 0.5, 0.75, 2)) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert hit_rates(maps, regions, 0.65, (0, 2)) == pytest.approx([1 / 3, 1 / 3])
    assert hit_rates(maps, regions, 2, (0, 2)) == [0, 0]


def test_equal_candidates_are_kept_or_dropped_together():
    masks = square(1, 16, [(0, 2, 2, 4, 4)])
    maps = np.zeros((1, 16, 16))
    maps[0, 3, 3] = maps[0, 10, 10] = 0.5
    assert hit_rates(maps, regions_of_masks(masks), 0.1, (0.5, 1)) == [0, 1]


def test_a_candidate_is_one_connected_part_of_one_image():
    masks = square(2, 16, [(0, 4, 4, 2, 2), (1, 4, 4, 2, 2)])
    maps = np.zeros((2, 16, 16))
    maps[0, range(4, 9), range(4, 9)] = [0.9, 0.5, 0.5, 0.5, 0.5]  # a diagonal that leaves the lesion
    maps[1, 4, 4] = 0.8  # above its end in the stack of images
    assert hit_rates(maps, regions_of_masks(masks), 0.1, (0,)) == [1]


def test_overlapping_boxes_are_hit_by_one_peak():
    regions = regions_of_boxes([[[2, 2, 6, 6], [4, 4, 6, 6]], []], 16, 16)
    maps = np.zeros((2, 16, 16))
    maps[0, 5, 5] = 1
    assert hit_rates(maps, regions, 0.5, (0,)) == [1]
    assert regions.masks.sum() == 36 + 36 - 16
    assert len(regions.image) == 2


@pytest.mark.parametrize(
    ("box", "rows", "cols"),
    [
        ([2, 3, 4, 5], (3, 8), (2, 6)),
        ([2.4, 3.6, 4.2, 4.2], (4, 8), (2, 7)),  # centers at 2.5 .. 6.5 and 4.5 .. 7.5
        ([0, 0, 16, 16], (0, 16), (0, 16)),
        ([7.6, 7.6, 0.1, 0.1], (7, 8), (7, 8)),  # between centers
        ([15.9, 0.0, 0.1, 0.1], (0, 1), (15, 16)),
    ],
)
def test_boxes_cover_the_pixels_whose_centers_they_hold(box, rows, cols):
    expected = np.zeros((1, 16, 16), dtype=bool)
    expected[0, slice(*rows), slice(*cols)] = True
    np.testing.assert_array_equal(regions_of_boxes([[box]], 16, 16).masks, expected)


def test_masks_and_boxes_give_the_same_regions():
    inside = [(0, 2, 3, 5, 4), (2, 9, 9, 4, 4), (2, 0, 0, 3, 2)]
    masks = square(3, 16, inside)
    boxes = [[list(box) for i, *box in inside if i == image] for image in range(3)]
    maps = lesions(3, 16)[0]
    one, other = regions_of_masks(masks), regions_of_boxes(boxes, 16, 16)
    np.testing.assert_array_equal(one.masks, other.masks)
    assert pixel_metrics(maps, one) == pytest.approx(pixel_metrics(maps, other))
    assert one.ill.tolist() == other.ill.tolist() == [True, False, True]
    assert sorted(one.image) == sorted(other.image) == [0, 2, 2]


def test_threshold_is_a_quantile_of_the_normals_pixels():
    maps = np.arange(1000.0).reshape(10, 10, 10)
    assert pixel_threshold(maps, 0.99) == pytest.approx(np.quantile(maps, 0.99))
    assert (maps > pixel_threshold(maps, 0.9)).mean() == pytest.approx(0.1, abs=0.002)


def test_threshold_needs_normals(refused):
    with refused("validation normals"):
        pixel_threshold(np.zeros((0, 8, 8)))


def test_boxes_scale_from_the_file_to_the_map():
    items = [{"image": "a", "boxes": [[100, 400, 200, 100]]}, {"image": "b"}, {"image": "c", "boxes": []}]
    told, regions, truth = read_regions(items, [(1600, 800)] * 3, 16, 16)
    assert (told, truth) == ([0, 2], "boxes")
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 1, 8, 2, 2)]))


def test_boxes_are_clipped_to_the_image():
    items = [{"image": "a", "boxes": [[-50, 700, 150, 300]]}]
    _, regions, _ = read_regions(items, [(800, 800)], 16, 16)
    np.testing.assert_array_equal(regions.masks, square(1, 16, [(0, 0, 14, 2, 2)]))


@pytest.mark.parametrize(
    "box",
    [[800, 0, 10, 10], [0, 900, 10, 10], [-20, 0, 20, 10], [5, 5, 0, 10], [5, 5, 10, -1], [float("nan"), 5, 1, 1]],
)
def test_box_outside_its_image_is_refused(box, refused):
    with refused("chest.png", "800 x 900"):
        read_regions([{"image": "chest.png", "boxes": [[1, 1, 5, 5], box]}], [(800, 900)], 16, 16)


@pytest.mark.parametrize("box", [[1, 2, 3], ["a", 1, 2, 3], None])
def test_what_is_no_box_is_refused(box, refused):
    with refused("chest.png", "[x, y, width, height]"):
        read_regions([{"image": "chest.png", "boxes": [box]}], [(800, 900)], 16, 16)


def save_mask(path, mask, mode="L", value=255):
    Image.fromarray((mask * value).astype(np.uint16 if mode == "I;16" else np.uint8)).convert(mode).save(path)
    return str(path)


@pytest.mark.parametrize(("mode", "value"), [("L", 255), ("L", 1), ("RGB", 255), ("RGBA", 255), ("1", 255)])
def test_masks_count_where_they_are_not_0(tmp_path, mode, value):
    mask = square(1, 16, [(0, 2, 3, 5, 4)])[0]
    item = {"image": "a.png", "mask": save_mask(tmp_path / "m.png", mask, mode, value)}
    told, regions, truth = read_regions([item, {"image": "b.png", "boxes": []}], [(16, 16)] * 2, 16, 16)
    assert (told, truth) == ([0, 1], "masks")
    np.testing.assert_array_equal(regions.masks, np.stack([mask, np.zeros_like(mask)]))


def test_a_mask_of_16_bits_keeps_its_small_values(tmp_path):
    pixels = np.zeros((16, 16), np.uint16)
    pixels[2:4, 2:4], pixels[8:10, 8:10] = 1, 60000
    Image.fromarray(pixels).save(tmp_path / "m.png")
    _, regions, _ = read_regions([{"image": "a", "mask": str(tmp_path / "m.png")}], [(16, 16)], 16, 16)
    np.testing.assert_array_equal(regions.masks[0], pixels > 0)


def test_masks_shrink_to_the_map_and_do_not_vanish(tmp_path):
    large = square(1, 64, [(0, 8, 16, 24, 12)])[0]
    tiny = square(1, 64, [(0, 33, 33, 1, 1)])[0]
    items = [{"image": n, "mask": save_mask(tmp_path / n, m)} for n, m in (("a.png", large), ("b.png", tiny))]
    _, regions, _ = read_regions(items, [(64, 64)] * 2, 16, 16)
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 2, 4, 6, 3), (1, 8, 8, 1, 1)]))


def test_boxes_serve_all_where_a_lesion_has_no_mask(tmp_path):
    mask = square(1, 16, [(0, 2, 2, 4, 4)])[0]
    mask[2, 2] = False
    items = [{"image": "a", "mask": save_mask(tmp_path / "m.png", mask)}, {"image": "b", "boxes": [[9, 9, 4, 4]]}]
    _, regions, truth = read_regions(items, [(16, 16)] * 2, 16, 16)
    assert truth == "boxes"
    np.testing.assert_array_equal(regions.masks, square(2, 16, [(0, 2, 2, 4, 4), (1, 9, 9, 4, 4)]))


def test_a_mask_of_another_size_is_refused(tmp_path, refused):
    path = save_mask(tmp_path / "m.png", square(1, 16)[0])
    with refused("m.png is 16 x 16", "chest.png 32 x 16"):
        read_regions([{"image": "chest.png", "mask": path}], [(32, 16)], 16, 16)


def test_a_broken_or_missing_mask_is_refused(tmp_path, refused):
    (tmp_path / "m.png").write_text("no picture")
    for name in ("m.png", "none.png"):
        with refused(name, "mask"):
            read_regions([{"image": "a", "mask": str(tmp_path / name)}], [(16, 16)], 16, 16)


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


def test_maps_and_regions_must_agree():
    with pytest.raises(ValueError, match="must agree"):
        dice(np.zeros((2, 8, 8)), regions_of_masks(np.zeros((2, 9, 8))), 0.5)


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
    weights = draw_weights(regions_of_masks(masks).ill, 3)
    found = bootstrap_localization(maps, regions_of_masks(masks), 0.6, weights)
    for row in range(3):
        chosen = np.repeat(np.arange(12), weights[row].astype(int))
        regions = regions_of_masks(masks[chosen])
        again = pixel_metrics(maps[chosen], regions) | {"dice": dice(maps[chosen], regions, 0.6)}
        assert {name: found[name][row] for name in again} == pytest.approx(again, abs=0.01)
        assert found["pointing_game"][row] == pytest.approx(pointing_game(maps[chosen], regions))


def test_draws_keep_both_kinds_of_images():
    ill = np.arange(30) % 3 == 0
    weights = draw_weights(ill, 50)
    assert (weights[:, ill].sum(1) == 10).all()
    assert (weights[:, ~ill].sum(1) == 20).all()
    assert len(np.unique(weights, axis=0)) == 50
    np.testing.assert_array_equal(weights, draw_weights(ill, 50))


def test_interval_covers_the_truth():
    """Of maps from one distribution, intervals of few images hold the value of very many, most of the time."""
    maps, masks = lesions(900, 16, seed=5)
    truth = pixel_metrics(maps, regions_of_masks(masks))["pixel_ap"]
    inside = 0
    for start in range(0, 900, 30):
        part = slice(start, start + 30)
        regions = regions_of_masks(masks[part])
        value = pixel_metrics(maps[part], regions)["pixel_ap"]
        drawn = bootstrap_localization(maps[part], regions, 0.6, draw_weights(regions.ill, 200))["pixel_ap"]
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
