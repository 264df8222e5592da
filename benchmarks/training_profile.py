"""Where the time of a training iteration goes, by kind of operation.

    python benchmarks/training_profile.py [--channels 16] [--batch_size 16] [--threads 2] [--device cpu] [--bfloat16]

Ten iterations on random images, the last eight under torch's profiler: each operation's own time, on the device where
it ran, as a share of all. The profiler itself costs some time.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from monai_sagan.bench.workloads import Size, make

KINDS = {  # the first that a name contains
    "convolutions, gradients of": ("convolution_backward", "convolution_backward_overrideable"),
    "convolutions": ("mkldnn_convolution", "cudnn_convolution", "convolution", "thnn_conv", "slow_conv"),
    "sums (instance norms, losses)": ("sum", "mean"),
    "optimizer": ("_fused_adam", "zero_"),
    "joining and copying": ("cat", "copy_", "clone", "contiguous", "_to_copy", "fill_", "empty"),
    "activations": ("threshold_backward", "relu", "clamp_min", "leaky_relu", "sigmoid", "tanh"),
    "elementwise": ("mul", "add", "sub", "div", "rsqrt", "pow", "neg", "abs", "where", "sgn", "sqrt", "expand"),
    "draws": ("rand", "uniform", "index", "gather", "grid_sampler"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = Size(channels=arguments.channels, batch_size=arguments.batch_size)
    step, _ = make("eager, bfloat16" if arguments.bfloat16 else "eager", size, arguments.device)
    for _ in range(2):
        step()
    cuda = torch.device(arguments.device).type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiled:
        for _ in range(8):
            step()
        if cuda:
            torch.cuda.synchronize()
    seconds: Counter[str] = Counter()
    for event in profiled.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # kernels, which count for the operations that launched them
        kind = _kind(event.key.removeprefix("aten::"))
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        seconds[kind] += own / 1e6  # of microseconds
    whole = sum(seconds.values())
    print(f"{size}, {arguments.device}, {arguments.threads} threads, torch {torch.__version__}")
    print(f"{whole / 8:.3f} s an iteration under the profiler")
    print(f"\n{'kind':32} {'share':>6} {'ms':>8}")
    for kind, own in seconds.most_common():
        print(f"{kind:32} {own / whole:6.1%} {own / 8 * 1e3:8.1f}")


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "else")


if __name__ == "__main__":
    main()
