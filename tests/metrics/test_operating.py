"""Thresholds of validation normals, and what they give on test images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from monai_sagan.metrics import conformal_p_values, normal_threshold, operating_points
from monai_sagan.metrics.conformal import TOLERANCE
from monai_sagan.metrics.operating import proportion_ci95


def test_by_hand():
    found = operating_points(range(19), [17, 18, 18.5, 30, 18, 18.1], [0, 0, 0, 1, 1, 1], (0.95, 0.9))
    assert [point["threshold"] for point in found] == [18 + TOLERANCE, 17 + TOLERANCE]
    assert found[0] == {
        "specificity_wanted": 0.95,
        "threshold": 18 + TOLERANCE,
        "sensitivity": pytest.approx(2 / 3),
        "sensitivity_ci95": proportion_ci95(2, 3),
        "specificity": pytest.approx(2 / 3),
        "specificity_ci95": proportion_ci95(2, 3),
        "n_valid_normal": 19,
    }
    assert (found[1]["sensitivity"], found[1]["specificity"]) == (1, pytest.approx(1 / 3))
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(("wanted", "needed"), [(0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1)])
def test_how_many_validation_normals_it_takes(wanted, needed):
    enough = operating_points(range(needed), [0, 1], [0, 1], [wanted])[0]
    assert enough["threshold"] == needed - 1 + TOLERANCE
    assert "warning" not in enough
    (too_few,) = operating_points(range(needed - 1), [0, 1], [0, 1], [wanted])
    assert f"{needed} validation normals" in too_few["warning"]
    assert f"there are {needed - 1}; " in too_few["warning"]
    assert "--valid_fraction" in too_few["warning"]
    assert {too_few[key] for key in ("threshold", "sensitivity", "specificity")} == {None}
    assert too_few["sensitivity_ci95"] is too_few["specificity_ci95"] is None
    assert too_few["n_valid_normal"] == needed - 1


@pytest.mark.parametrize("wanted", [0.9, 0.95])
@pytest.mark.parametrize("n", [19, 50])
def test_a_new_normal_image_is_rarely_above(n, wanted):
    """The chance to be called normal is rank / (n + 1), at least what is wanted, over draws of the validation."""
    rng = np.random.default_rng(n)
    called_normal = np.mean([rng.normal() <= normal_threshold(rng.normal(size=n), wanted) for _ in range(3000)])
    chance = np.ceil((n + 1) * wanted - 1e-9) / (n + 1)
    assert chance >= wanted - 1e-12
    assert abs(called_normal - chance) < 3 * np.sqrt(chance * (1 - chance) / 3000)


def test_above_the_threshold_is_a_small_p_value():
    rng = np.random.default_rng(0)
    for n in (9, 19, 20, 38, 39, 100):
        valid, scores = rng.integers(0, 12, n), rng.integers(-2, 15, 200)
        above = scores > normal_threshold(valid, 0.9)
        np.testing.assert_array_equal(above, conformal_p_values(valid, scores) <= 0.1 + 1e-12)


@pytest.mark.parametrize("wanted", [0.9, 0.95])
def test_another_machine_flags_the_same_validation_normals(wanted):
    rng = np.random.default_rng(0)
    valid = rng.normal(0.05, 0.01, 60).astype(np.float32)
    threshold = normal_threshold(valid, wanted)
    rank = int(np.ceil(61 * wanted))
    assert (valid > threshold).sum() == 60 - rank
    for _ in range(20):
        np.testing.assert_array_equal(valid + rng.uniform(-1e-8, 1e-8, 60) > threshold, valid > threshold)


def test_one_class_or_no_labels():
    (normal_only,) = operating_points(range(20), [1, 50], [0, 0], [0.9])
    assert (normal_only["specificity"], normal_only["sensitivity"], normal_only["sensitivity_ci95"]) == (
        0.5,
        None,
        None,
    )
    (unknown,) = operating_points(range(20), [1, 50], [None, None], [0.9])
    assert unknown["threshold"] == 17 + 1 + TOLERANCE
    assert (unknown["specificity"], unknown["sensitivity"]) == (None, None)


def test_a_threshold_below_zero():
    (point,) = operating_points(np.linspace(-30, -10, 9), [-20, -5, -9, -25], [0, 0, 1, 1], [0.9])
    assert point["threshold"] == -10 + TOLERANCE
    assert (point["sensitivity"], point["specificity"]) == (0.5, 0.5)


def test_wilson_covers():
    """Averaged over true shares the interval of 40 images covers 95 %, with room for its known waves."""
    counts = np.arange(41)
    intervals = [proportion_ci95(int(count), 40) for count in counts]
    covered = []
    for share in np.linspace(0.02, 0.98, 97):
        held = [low <= share <= high for low, high in intervals]
        covered.append((binom.pmf(counts, 40, share) * held).sum())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert proportion_ci95(0, 10)[0] == 0
    assert proportion_ci95(10, 10)[1] == 1


@pytest.mark.parametrize("wanted", [0, 1, -0.1, 95, float("nan")])
def test_a_specificity_out_of_range(wanted, refused):
    with refused("wanted specificity", "as 0.95"):
        operating_points(range(20), [1], [0], [wanted])
