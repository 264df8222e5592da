"""How unusual an image is among normal ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monai_sagan.metrics.arrays import Values, finite_scores

__all__ = ["conformal_p_values"]


def conformal_p_values(valid_normal_scores: Values, scores: Values) -> NDArray[np.float64]:
    """Split-conformal p-values (N,) in (0, 1]: small for an image that scores higher than nearly all normal ones.

    ``(1 + number of validation normals that score as high or higher) / (n + 1)``. A normal image like those of the
    validation, which must have had no part in training, gets a p-value of at most alpha with a chance of at most
    alpha, whatever the model (Bates et al. 2023, doi:10.1214/22-AOS2244). The smallest possible one is 1 / (n + 1).

    Args:
        valid_normal_scores: (n,) of validation normals; none gives 1 for every image.
        scores: (N,), higher is more abnormal.

    Raises:
        SaganError: for a score that is not finite.
    """
    valid = np.sort(finite_scores(valid_normal_scores))
    as_high = len(valid) - np.searchsorted(valid, finite_scores(scores), side="left")
    return np.asarray((1 + as_high) / (len(valid) + 1), dtype=np.float64)
