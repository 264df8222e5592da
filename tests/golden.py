"""Numbers that were computed with published networks, and their parameters, each made from its own name."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn


def golden(file: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file beside the data of MONAI_SAGAN_DATA; the test is skipped where there is none."""
    data = os.environ.get("MONAI_SAGAN_DATA")
    if not data:
        pytest.skip("MONAI_SAGAN_DATA is not set: no golden numbers")
    path = Path(data).parent / "golden" / file
    if not path.is_file():
        pytest.skip(f"no golden numbers at {path}")
    with np.load(path) as arrays:
        return dict(arrays)


def made_from_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The parameters and buffers of golden numbers, each made from its own name; see golden/README.md."""
    state = {}
    for name, shape in shapes.items():
        seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        t = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.1 * t.abs()
        elif name.endswith("running_mean"):
            state[name] = 0.1 * t
        elif t.ndim > 1:
            state[name] = t / math.prod(shape[1:]) ** 0.5
        else:
            state[name] = 1 + 0.1 * t if name.endswith("weight") else 0.1 * t
    return state


def load_in_order(network: nn.Module, shapes: str) -> None:
    """Give a network published parameters, matched by their order; ``shapes`` is JSON, from name to shape."""
    published = made_from_names(json.loads(str(shapes)))
    own = network.state_dict()
    assert [tuple(value.shape) for value in own.values()] == [tuple(value.shape) for value in published.values()]
    network.load_state_dict(dict(zip(own, published.values(), strict=True)))
