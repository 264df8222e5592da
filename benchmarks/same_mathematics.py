"""How far the losses of the fast ways to train are from those of the published loop, on the same images and draws.

    python benchmarks/same_mathematics.py [--iterations 20] [--channels 4] [--compiled] [--device cpu]

An iteration's figure is the largest difference of its losses, relative to the loss, or to 0.1 where that is smaller.
The published loop itself is run in another layout of memory, too: as far as it parts from itself, float32 cannot tell.
Last, the angle between gradients of the penalty in float32 and in bfloat16, with the critic of the paper's size.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from functools import partial

import torch
from torch import Tensor

from monai_sagan import losses
from monai_sagan.bench.same_draws import published_losses, trainer_losses
from monai_sagan.networks import SaganDiscriminator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--compiled", action="store_true", help="minutes")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    published_on = partial(published_losses, arguments.iterations, arguments.channels, device=arguments.device)
    trained_on = partial(trainer_losses, arguments.iterations, arguments.channels, device=arguments.device)
    torch.backends.cudnn.allow_tf32 = False  # float32 is to be float32
    print(f"{'relative to the published loop':48} {'first':>8} {'third':>8} {'median':>8} {'largest':>8}")
    published = published_on()
    show("float32: the same in another layout", published_on(layout=torch.channels_last), published)
    eager = trained_on()
    show("float32: SaganTrainer, eager", eager, published)
    if arguments.compiled:
        show("float32: SaganTrainer, compiled", trained_on(engine="compiled"), published)
    show("bfloat16: SaganTrainer, eager", trained_on(amp=True), published)
    to_float = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # conversions to float32 on the way, too
    torch.set_default_dtype(torch.float64)
    published = published_on()
    show("float64: the same in another layout", published_on(layout=torch.channels_last), published)
    show("float64: SaganTrainer, eager", trained_on(), published)
    torch.Tensor.float = to_float  # type: ignore[method-assign]
    torch.set_default_dtype(torch.float32)
    for channels in (16, 64):
        print(f"cosine of the penalty's gradient in bfloat16, {channels} channels: {cosine(channels):.5f}")


def show(name: str, found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    apart = [
        max(abs(ours[loss] - value) / max(abs(value), 0.1) for loss, value in theirs.items())
        for ours, theirs in zip(found, expected, strict=True)
    ]
    print(f"{name:48} {apart[0]:8.1e} {apart[2]:8.1e} {statistics.median(apart):8.1e} {max(apart):8.1e}", flush=True)


def cosine(channels: int) -> float:
    torch.manual_seed(1)
    critic = SaganDiscriminator(channels=channels, init="he")
    images = [torch.rand(16, 1, 64, 64) * 2 - 1 for _ in range(2)]
    alpha = torch.rand(16, 1, 1, 1)
    both = [gradient(copy.deepcopy(critic), *images, alpha, amp=amp).double() for amp in (False, True)]
    return float(torch.nn.functional.cosine_similarity(*both, dim=0))


def gradient(critic: SaganDiscriminator, normal: Tensor, restored: Tensor, alpha: Tensor, amp: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        penalty = losses.gradient_penalty(critic, normal, restored, alpha)
    penalty.backward()
    return torch.cat([parameter.grad.flatten() for parameter in critic.parameters() if parameter.grad is not None])


if __name__ == "__main__":
    main()
