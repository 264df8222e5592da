"""What only a GPU can show; left out where there is none."""

from __future__ import annotations

import logging

import pytest
import torch

from monai_sagan.bench.same_draws import trainer_losses
from monai_sagan.bench.workloads import Size, make
from monai_sagan.data.batches import TrainingBatches

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

TINY = Size(channels=4, num_res_blocks=1, batch_size=4, images=16)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Without TF32, which torch takes for convolutions of float32 numbers."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_captured_iterations_equal_eager_ones(caplog):
    with caplog.at_level(logging.WARNING):
        found, expected = (trainer_losses(12, engine=engine, device="cuda") for engine in ("compiled", "eager"))
    ours = [record for record in caplog.records if record.name.startswith("monai_sagan")]
    assert not ours  # compiled and captured, or else it would say so
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-2, abs=1e-3)  # rounding grows, see benchmarks/README.md
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", ["eager", "compiled, bfloat16"])
def test_an_iteration_waits_for_nothing(name):
    step, _ = make(name, TINY, "cuda")
    for _ in range(12):
        step()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(4):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_all_pixels_are_on_the_device():
    pixels = torch.randint(0, 256, (8, 1, 64, 64), dtype=torch.uint8)
    batches = TrainingBatches(pixels, pixels, 4, 10, device="cuda", augment=True)
    assert batches.normal.device.type == "cuda"
    assert batches.normal.dtype == torch.uint8
    assert {x.device.type for x in batches.batch(0).values()} == {"cuda"}
