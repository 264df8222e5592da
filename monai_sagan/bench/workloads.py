"""The timed workloads: the published loop, and this package's training and restoring, on the same random images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_sagan.bench.method_steps import MethodSize, method_step
from monai_sagan.bench.published_loop import PublishedLoop, as_published
from monai_sagan.data.batches import TrainingBatches, to_unit_range
from monai_sagan.engines import SaganTrainer
from monai_sagan.engines.compiled import compile_for
from monai_sagan.networks import SaganDiscriminator, SaganGenerator


@dataclass(frozen=True)
class Size:
    """The size of networks and work; the defaults are the paper's."""

    channels: int = 64  # width of both networks' first level
    num_res_blocks: int = 6  # in the generator's bottleneck
    batch_size: int = 64  # images of each stream in an iteration, and restored at a time
    side: int = 64  # of the images, in pixels, a multiple of 32: patches stay 32 x 32 pixels, as in the paper
    images: int = 1000  # normal images, and as many unlabeled ones
    checkpoint_images: int | None = None  # of the generator, see `monai_sagan.networks.SaganGenerator`


Step = Callable[[], object]


def make(name: str, size: Size | MethodSize, device: str) -> tuple[Step, int]:
    """One iteration of `TRAINING` or a method, or one batch of `INFERENCE`, as a call, and its images per stream.

    A pair of iterations has one generator update: time an even number.
    """
    if isinstance(size, MethodSize):
        return method_step(size, device)
    return (TRAINING | INFERENCE)[name](size, device)


def _networks(size: Size) -> tuple[SaganGenerator, SaganDiscriminator]:
    torch.manual_seed(0)
    grid = (size.side // 32, size.side // 32)
    return (
        SaganGenerator(
            channels=size.channels,
            num_res_blocks=size.num_res_blocks,
            grid=grid,
            checkpoint_images=size.checkpoint_images,
        ),
        SaganDiscriminator(channels=size.channels),
    )


def _images(size: Size) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shape = (2 * size.images, 1, size.side, size.side)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    return pixels[: size.images], pixels[size.images :]


def _published(size: Size, device: str) -> tuple[Step, int]:
    normal, unlabeled = _images(size)
    loop = PublishedLoop(*_networks(size), normal, unlabeled, size.batch_size, device)
    return loop.step, size.batch_size


def _trainer(engine: str, amp: bool) -> Callable[[Size, str], tuple[Step, int]]:
    def build(size: Size, device: str) -> tuple[Step, int]:
        layout: dict[str, Any] = {"memory_format": torch.channels_last}
        generator, critic = (network.to(device).to(**layout) for network in _networks(size))
        batches = TrainingBatches(*_images(size), size.batch_size, length=1000, device=device)
        optimizers = [
            torch.optim.Adam(network.parameters(), 5e-5, (0.5, 0.999), fused=True) for network in (generator, critic)
        ]
        trainer = SaganTrainer(
            device, 1, batches, generator, optimizers[0], critic, optimizers[1], engine=engine, amp=amp
        )
        stream = iter(batches)

        def step() -> object:
            trainer.state.iteration += 1
            return trainer._iteration(trainer, next(stream))

        return step, size.batch_size

    return build


def _data_alone(size: Size, device: str) -> tuple[Step, int]:
    stream = iter(TrainingBatches(*_images(size), size.batch_size, length=1000, device=device))
    return lambda: next(stream), size.batch_size


def _one_by_one(size: Size, device: str) -> tuple[Step, int]:
    generator, image = as_published(_networks(size)[0]).to(device).train(), _images(size)[0][:1]

    def step() -> object:
        with torch.no_grad():  # the published test loop; train() keeps its normalization per image, and the mask
            restored: Tensor = generator(to_unit_range(image.to(device)))
            return float(restored.mean())

    return step, 1


def _restorer(engine: str, amp: bool) -> Callable[[Size, str], tuple[Step, int]]:
    def build(size: Size, device: str) -> tuple[Step, int]:
        layout: dict[str, Any] = {"memory_format": torch.channels_last}
        generator = _networks(size)[0].to(device).to(**layout).eval()
        images = _images(size)[0][: size.batch_size]
        restored = compile_for(engine, generator, device)

        def step() -> object:
            with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
                return float(restored(to_unit_range(images.to(device))).mean())

        return step, size.batch_size

    return build


TRAINING: dict[str, Callable[[Size, str], tuple[Step, int]]] = {
    "published loop": _published,
    "eager": _trainer("eager", False),
    "eager, bfloat16": _trainer("eager", True),
    "compiled": _trainer("compiled", False),
    "compiled, bfloat16": _trainer("compiled", True),
    "data alone": _data_alone,
}
INFERENCE: dict[str, Callable[[Size, str], tuple[Step, int]]] = {
    "one by one": _one_by_one,
    "batches": _restorer("eager", False),
    "batches, bfloat16": _restorer("eager", True),
    "batches, compiled": _restorer("compiled", False),
    "batches, compiled, bfloat16": _restorer("compiled", True),
}
