from __future__ import annotations

import pytest
import torch

from monai_sagan.models.device import check_device, default_device


@pytest.mark.parametrize(("available", "wanted"), [(False, "cpu"), (True, "cuda")])
def test_the_gpu_where_there_is_one(monkeypatch, available, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert default_device() == torch.device(wanted)


def test_what_is_there(monkeypatch, refused):
    assert check_device("cpu") == torch.device("cpu")
    with refused("device is 'gpu'", "cuda:1"):
        check_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda") == torch.device("cuda")
    assert check_device(torch.device("cuda", 1)) == torch.device("cuda:1")
    with refused("device is 'cuda:2'", "sees 2 GPUs", "cuda:0 to cuda:1"):
        check_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("device is 'cuda'", "sees 0 GPUs", "use cpu"):
        check_device("cuda")
