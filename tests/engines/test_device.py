from __future__ import annotations

import pytest
import torch

from monai_sagan.engines.device import default_device


@pytest.mark.parametrize(("available", "wanted"), [(False, "cpu"), (True, "cuda")])
def test_the_gpu_where_there_is_one(monkeypatch, available, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert default_device() == torch.device(wanted)
