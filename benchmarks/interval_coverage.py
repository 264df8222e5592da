"""How often the 95 % intervals of AUC and average precision hold the truth, in percent; aim: 93.5 to 96.5.

    python benchmarks/interval_coverage.py [--draws 2000] [--bootstrap 0] [--hard]

Scores are drawn from the binormal model: normal images from N(0, 1), abnormal ones from N(mean, spread^2). The true
AUC is given, the true average precision comes by numerical integration at the share of abnormal images. With 2,000
draws a coverage of 95 has a standard error of 0.5. ``plain`` is DeLong's interval without the logit. ``--bootstrap B``
adds intervals of the average precision from B resamples: its percentiles, bias-corrected and accelerated ones (BCa),
and their standard deviation on the logit scale. ``--hard`` adds few images, unequal classes and spreads, AUC .99.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from monai_sagan.metrics import average_precision, average_precision_ci95, delong, roc_auc_ci95
from monai_sagan.metrics.precision import average_precision_of_counts, leave_one_out, tally
from monai_sagan.metrics.roc import logit_interval

Z = float(norm.isf(0.025))
Scores = NDArray[np.float64]
Interval = tuple[float, float] | list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--bootstrap", type=int, default=0)
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cells = list(itertools.product([(100, 100), (500, 500)], [0.75, 0.9, 0.97], [1.0]))
    if args.hard:
        cells += itertools.product([(30, 30), (100, 100), (300, 30), (1000, 100)], [0.9, 0.97, 0.99], [1.0, 2.0])
    print("normal abnormal spread   AUC    AP   coverage in percent")
    for (n_normal, n_abnormal), auc, spread in dict.fromkeys(cells):
        mean = math.sqrt(1 + spread**2) * norm.ppf(auc)
        ap = true_average_precision(mean, spread, n_abnormal / (n_normal + n_abnormal))
        rng = np.random.default_rng(args.seed)
        held: dict[str, list[bool]] = {}
        labels = np.repeat([0, 1], [n_normal, n_abnormal])
        for draw in range(args.draws):
            noise = rng.standard_normal(len(labels))
            scores = np.where(labels == 1, mean + spread * noise, noise)
            for name, (low, high) in intervals(scores, labels, args.bootstrap, draw):
                held.setdefault(name, []).append(bool(low <= (ap if name.startswith("AP") else auc) <= high))
        found = "  ".join(f"{name} {100 * np.mean(hits):.1f}" for name, hits in held.items())
        print(f"{n_normal:6} {n_abnormal:8} {spread:6g} {auc:5.2f} {ap:5.3f}   {found}", flush=True)


def true_average_precision(mean: float, spread: float, prevalence: float) -> float:
    """The integral of the precision over the recall."""

    def precision(recall: float) -> float:
        false_alarms = norm.sf(mean + spread * norm.isf(recall))
        return float(prevalence * recall / (prevalence * recall + (1 - prevalence) * false_alarms))

    return float(quad(precision, 0, 1, limit=200)[0])


def intervals(scores: Scores, labels: NDArray[np.int64], resamples: int, seed: int) -> Iterator[tuple[str, Interval]]:
    found = roc_auc_ci95(scores, labels), average_precision_ci95(scores, labels)
    assert found[0]
    assert found[1]
    yield "AUC", found[0]
    areas, covariance = delong([scores], labels)
    half = Z * math.sqrt(covariance[0, 0])
    yield "AUC plain", (areas[0] - half, areas[0] + half)
    yield "AP", found[1]
    if not resamples:
        return
    value, drawn = average_precision(scores, labels), bootstrap(scores, labels, resamples, seed)
    assert value is not None
    low, high = np.quantile(drawn, [0.025, 0.975])
    yield "AP percentile", (low, high)
    yield "AP BCa", bca(value, drawn, acceleration(scores, labels))
    yield "AP logit", logit_interval(value, float(drawn.var(ddof=1)), Z) if value < 1 else (0.0, 1.0)


def bootstrap(scores: Scores, labels: NDArray[np.int64], resamples: int, seed: int) -> Scores:
    """The average precision of resamples, normal and abnormal images drawn apart."""
    rng = np.random.default_rng(seed)
    kinds = tally(scores, labels == 1)
    drawn = [rng.multinomial(int(n.sum()), n / n.sum(), resamples).astype(np.float64) for n in kinds]
    return average_precision_of_counts(*drawn)


def bca(value: float, drawn: Scores, a: float) -> Interval:
    """The bias-corrected and accelerated interval (Efron 1987, doi:10.1080/01621459.1987.10478410)."""
    bias = norm.ppf(np.clip(np.mean(drawn < value), 1e-4, 1 - 1e-4))
    shifted = np.array([bias - Z, bias + Z])
    low, high = np.quantile(drawn, norm.cdf(bias + shifted / (1 - a * shifted)))
    return low, high


def acceleration(scores: Scores, labels: NDArray[np.int64]) -> float:
    """From leaving each image out, normal and abnormal ones apart."""
    squares = cubes = 0.0
    for left_out, counts in leave_one_out(*tally(scores, labels == 1)):
        change = ((counts * left_out).sum() / counts.sum() - left_out) * (counts.sum() - 1) / counts.sum()
        squares += float((counts * change**2).sum())
        cubes += float((counts * change**3).sum())
    return cubes / (6 * squares**1.5) if squares else 0.0


if __name__ == "__main__":
    main()
