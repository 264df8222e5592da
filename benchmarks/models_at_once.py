"""Six autoencoders trained as one stacked network, beside the same six trained one after another.

One iteration is a forward and backward pass and an Adam step of each model, on images of its own. Ways alternate
within a round, because machines are shared; a round's ratio is its time of the first way over that of another.

- plain: torch's layers and Adam's defaults, one model after another, as published code does;
- tuned: the same with channels last and a fused Adam;
- vmap: `torch.func.vmap` over stacked parameters (batch norms without running statistics, which vmap cannot update);
- stacked: `monai_sagan.networks.autoencoder.Autoencoders`, as the method ddad trains it.

``--profile`` adds where the time of the stacked network goes. On a machine that others use, ``--clock cpu`` with
OMP_NUM_THREADS=1 counts only the processor's time for this process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from monai_sagan.engines.memory import keep_freed_memory
from monai_sagan.methods.updates import descend
from monai_sagan.networks.autoencoder import WIDTHS, Autoencoders

MEMBERS, HIDDEN, LATENT, SIDE = 6, 2048, 16, 64
RATE, BETAS = 5e-4, (0.5, 0.999)


def single(track: bool = True) -> nn.Sequential:
    """One autoencoder of torch's own layers."""
    bottom, layers = SIDE // 16, list[nn.Module]()
    for a, b in pairwise((1, *WIDTHS)):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b, track_running_stats=track), nn.ReLU()]
    features = WIDTHS[-1] * bottom**2
    layers.append(nn.Flatten())
    for a, b in ((features, LATENT), (LATENT, features)):
        norm = nn.BatchNorm1d(HIDDEN, track_running_stats=track)
        layers += [nn.Linear(a, HIDDEN), norm, nn.ReLU(), nn.Linear(HIDDEN, b)]
    layers.append(nn.Unflatten(1, (WIDTHS[-1], bottom, bottom)))
    for a, b in pairwise(WIDTHS[::-1]):
        norms = nn.BatchNorm2d(b, track_running_stats=track)
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), norms, nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(WIDTHS[0], 1, 4, 2, 1, bias=False))


def one_after_another(images: Tensor, tuned: bool) -> Callable[[], None]:
    """An iteration of six models in turn."""
    models = [single() for _ in range(MEMBERS)]
    if tuned:
        for model in models:
            model.to(memory_format=torch.channels_last)
    optimizers = [torch.optim.Adam(m.parameters(), RATE, BETAS, fused=True if tuned else None) for m in models]

    def iteration() -> None:
        for model, optimizer, image in zip(models, optimizers, images, strict=True):
            descend(optimizer, (model(image) - image).square().mean())

    return iteration


def vmapped(images: Tensor) -> Callable[[], None]:
    """An iteration of six models by vmap."""
    base = single(track=False).to("meta")
    parameters, buffers = torch.func.stack_module_state([single(track=False) for _ in range(MEMBERS)])
    optimizer = torch.optim.Adam(parameters.values(), RATE, BETAS, fused=True)

    def loss(own: dict[str, Tensor], rest: dict[str, Tensor], image: Tensor) -> Tensor:
        return (torch.func.functional_call(base, (own, rest), image) - image).square().mean()

    def iteration() -> None:
        descend(optimizer, torch.func.vmap(loss)(parameters, buffers, images).sum())

    return iteration


def stacked(images: Tensor) -> Callable[[], None]:
    """An iteration of six models as one network."""
    network = Autoencoders(MEMBERS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), RATE, BETAS, fused=True)
    image = images.transpose(0, 1).flatten(1, 2).contiguous()

    def iteration() -> None:
        error = (network.reconstruct(image).mean - image.unflatten(1, (MEMBERS, 1))).square()
        descend(optimizer, error.mean(dim=(0, 2, 3, 4)).sum())

    return iteration


def seconds(iteration: Callable[[], None], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        iteration()
    return (clock() - start) / count


def compare(batch: int, rounds: int, clock: Callable[[], float]) -> None:
    """Print a line for each way."""
    torch.manual_seed(0)
    images = torch.randn(MEMBERS, batch, 1, SIDE, SIDE).tanh()
    ways = {
        "plain": one_after_another(images, tuned=False),
        "tuned": one_after_another(images, tuned=True),
        "vmap": vmapped(images),
        "stacked": stacked(images),
    }
    for way in ways.values():
        way()
    count = max(64 // batch // 4, 1)
    times = [{name: seconds(way, count, clock) for name, way in ways.items()} for _ in range(rounds)]
    for name in ways:
        ratios = sorted(one["plain"] / one[name] for one in times)
        middle = statistics.median(one[name] for one in times) * 1e3
        print(
            f"batch {batch:3d}  {name:8s} {middle:8.1f} ms  {statistics.median(ratios):5.2f} times plain "
            f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]",
            flush=True,
        )


def print_profile(batch: int, clock: Callable[[], float], count: int = 3) -> None:
    """Print how the time of the stacked network divides, and what a large matrix product reaches."""
    iteration = stacked(torch.randn(MEMBERS, batch, 1, SIDE, SIDE).tanh())
    iteration()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(count):
            iteration()
    kinds: dict[str, float] = {}
    for event in found.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((k for k, words in KINDS.items() if any(word in name for word in words)), "else")
        kinds[kind] = kinds.get(kind, 0) + event.self_cpu_time_total / 1e3 / count
    total = sum(kinds.values())
    for kind, spent in sorted(kinds.items(), key=lambda pair: -pair[1]):
        print(f"profile, batch {batch}: {kind:16s} {spent / total:4.0%}")
    share = (kinds["convolutions"] + kinds["matrix products"]) / total
    rate = MEMBERS * batch * 3 * 2 * multiplications() / (share * seconds(iteration, count, clock)) / 1e9
    square = torch.randn(1500, 1500)
    reached = 2 * 1.5**3 / min(seconds(lambda: square @ square, 3, clock) for _ in range(5))
    print(f"convolutions and matrix products at {rate:.0f} GFLOP/s; a product of two 1500 x 1500 at {reached:.0f}")


KINDS = {
    "convolutions": ("conv",),
    "matrix products": ("mm",),
    "batch norm": ("batch_norm",),
    "activations": ("clamp_min", "threshold", "relu"),
    "Adam": ("adam", "Adam"),
}


def multiplications() -> int:
    """Of one image forward through one model."""
    count, side = 0, SIDE
    for a, b in pairwise((1, *WIDTHS)):
        side //= 2
        count += 2 * 16 * a * b * side**2  # encoder, and the decoder's mirror image
    return count + 2 * HIDDEN * (WIDTHS[-1] * (SIDE // 16) ** 2 + LATENT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 16, 4], help="images of each model")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    keep_freed_memory()  # as in training: gradients of stacked layers are large
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.clock} time")
    for batch in options.batch:
        compare(batch, options.rounds, clock)
        if options.profile:
            print_profile(batch, clock)


if __name__ == "__main__":
    main()
