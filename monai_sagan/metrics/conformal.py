"""How unusual an image is among normal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.metrics.arrays import Values, finite_scores

__all__ = ["conformal_p_values"]

TOLERANCE = 1e-5  # other formats and machines repeat a score within it


def conformal_p_values(valid_normal_scores: Values, scores: Values) -> NDArray[np.float64]:
    """Split-conformal p-values (N,) in (0, 1]: small for an image that scores higher than nearly all normal ones.

    ``(1 + number of validation normals that score as high or higher) / (n + 1)``. A normal image like those of the
    validation, which must have had no part in training, gets a p-value of at most alpha with a chance of at most
    alpha, whatever the model (Bates et al. 2023, doi:10.1214/22-AOS2244). The smallest possible one is 1 / (n + 1).

    "As high" allows for rounding, see `cut_points`. Without validation normals every p-value is 1.

    >>> conformal_p_values([0.1, 0.2, 0.3, 0.4], [0.05, 0.35, 0.9]).tolist()
    [1.0, 0.4, 0.2]
    """
    cuts = cut_points(finite_scores(valid_normal_scores))
    as_high = len(cuts) - np.searchsorted(cuts, finite_scores(scores), side="left")
    return np.asarray((1 + as_high) / (len(cuts) + 1), dtype=np.float64)


def cut_points(values: NDArray[Any]) -> NDArray[np.float64]:
    """The cut above each of n finite values, float64 (n,) in rising order: a score is higher if it is above the cut.

    The cut lies half-way to the next higher value, but at most 1e-5 above its own. So a score that is computed again,
    by another format or on another machine, stays on its side of each cut.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    following = np.append(ordered, np.inf)[np.searchsorted(ordered, ordered, side="right")]
    return np.asarray(ordered + np.minimum((following - ordered) / 2, TOLERANCE))
