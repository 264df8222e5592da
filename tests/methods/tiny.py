"""Every method at its smallest: a new one is covered by one row."""

from __future__ import annotations

from typing import Any

from monai_sagan.methods import METHODS, resolve_settings

TINY: dict[str, dict[str, Any]] = {
    "sagan": {"channels": 4, "num_res_blocks": 1, "grid": [2, 2]},
    "brainomaly": {"channels": 4, "num_res_blocks": 1},
    "pu": {"channels": 2},
    "amae": {
        **{"width": 8, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2},
        **{"patch": 16, "test_masks": 3},
    },
    "two_stages.TwoStages": {},
}
assert set(METHODS) <= set(TINY), "a method without its smallest options"


def tiny(method: str, **values: Any) -> Any:
    """Its settings: a run of two epochs for each stage, three iterations each."""
    from monai_sagan.methods import find_method

    epochs = 2 * find_method(method).stages_count
    shape = {"batch_size": 4, "iterations_per_epoch": 3, "max_iterations": 3 * epochs}
    return resolve_settings("recommended", method, **{**shape, **TINY[method], **values})
