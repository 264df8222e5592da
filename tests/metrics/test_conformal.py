"""P-values against validation normals: their definition and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from monai_sagan.metrics import conformal_p_values
from monai_sagan.metrics.conformal import TOLERANCE, cut_points


def test_definition_with_ties():
    valid = [0.2, 0.4, 0.4, 0.9]
    assert conformal_p_values(valid, [0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 1]).tolist() == [1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]
    assert conformal_p_values([], [1, 2]).tolist() == [1, 1]
    assert conformal_p_values(valid, []).tolist() == []


def test_never_rises_with_the_score():
    rng = np.random.default_rng(0)
    p = conformal_p_values(rng.integers(0, 30, 50), np.sort(rng.integers(-5, 40, 200)))
    assert (np.diff(p) <= 0).all()
    assert p.min() == pytest.approx(1 / 51)
    assert p.max() == 1


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("n", [19, 99])
def test_false_alarm_rate(alpha, n):
    """New normals over 3,000 draws of the validation: at most alpha, and with distinct scores exactly."""
    rng = np.random.default_rng(n)
    draws = 3000
    alarms = [conformal_p_values(rng.normal(size=n), rng.normal(size=1))[0] <= alpha for _ in range(draws)]
    assert abs(np.mean(alarms) - alpha) < 3 * np.sqrt(alpha * (1 - alpha) / draws)


def test_ties_raise_fewer_alarms():
    rng = np.random.default_rng(0)
    alarms = [conformal_p_values(rng.integers(0, 3, 19), rng.integers(0, 3, 1))[0] <= 0.1 for _ in range(1000)]
    assert np.mean(alarms) < 0.1 - 3 * np.sqrt(0.1 * 0.9 / 1000)


def test_scores_that_are_no_numbers(refused):
    for valid, scores in (([np.nan], [1]), ([1], [np.inf])):
        with refused("1 scores are not finite"):
            conformal_p_values(valid, scores)


def test_cuts_are_half_way_to_the_next_score_or_the_tolerance_above():
    assert cut_points([0.4, 0.2, 0.4, 0.9]).tolist() == [
        0.2 + TOLERANCE,
        0.4 + TOLERANCE,
        0.4 + TOLERANCE,
        0.9 + TOLERANCE,
    ]
    near = 0.2 + TOLERANCE / 2
    assert cut_points([near, 0.2]).tolist() == [pytest.approx(0.2 + TOLERANCE / 4), near + TOLERANCE]
    assert cut_points([]).tolist() == []


@pytest.mark.parametrize("n", [19, 100])
def test_another_machine_gives_the_validation_normals_the_same_p_values(n):
    """Their scores are repeated up to rounding, not to the last digit."""
    rng = np.random.default_rng(n)
    valid = rng.normal(0.05, 0.01, n).astype(np.float32)
    valid[3] = valid[7]
    p_values = conformal_p_values(valid, valid)
    for _ in range(20):
        np.testing.assert_array_equal(conformal_p_values(valid, valid + rng.uniform(-1e-8, 1e-8, n)), p_values)
