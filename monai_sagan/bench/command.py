"""``monai-sagan bench``: the speed of training and inference on this machine, beside the published loop."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan.errors import SaganError
from monai_sagan.files import write_text

if TYPE_CHECKING:
    from monai_sagan.bench.workloads import Size

SECTIONS = ("training", "inference", "growth", "sides")
SMALL = {"channels": 16, "batch_size": 16}
SIZES = {
    "channels": "of both networks' first level (default: 64, small 16)",
    "num_res_blocks": "residual blocks of the generator (default: 6)",
    "batch_size": "images of each stream (default: 64, small 16)",
    "images": "normal images, and as many unlabeled ones (default: 1000)",
}


def add_bench_arguments(verb: argparse.ArgumentParser) -> None:
    """Add the options of `bench_command` to the command-line ``verb``."""
    words = f"of {', '.join(SECTIONS)} (default: the first two)"
    verb.add_argument("sections", nargs="*", metavar="SECTION", help=words)
    words = "training of this method beside SAGAN's, each at its --preset, in place of the published loop"
    verb.add_argument("--method", help=words)
    verb.add_argument("--preset", default="recommended", help="of the methods, for --method (default: recommended)")
    verb.add_argument("--device", help="default: the first GPU, or the CPU without one")
    words = "default: paper on a GPU, small (16 channels) on a CPU"
    verb.add_argument("--size", choices=("paper", "small"), help=words)
    for name, words in SIZES.items():
        verb.add_argument(f"--{name}", type=int, help=words)
    words = "of images, in pixels, of the section sides (default: 64 128 256 512)"
    verb.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256, 512], help=words)
    verb.add_argument("--compiled", action="store_true", help="also compiled, as always on a GPU; takes minutes once")
    verb.add_argument(
        "--bfloat16", action="store_true", help="also in bfloat16, as always on devices with units for it"
    )
    verb.add_argument("--rounds", type=int, default=5, help="of each workload in turn (default: 5)")
    verb.add_argument("--threads", type=int, help="of torch, on a CPU")
    verb.add_argument("--output", metavar="FILE", help="write all figures as JSON")


def bench_command(arguments: argparse.Namespace) -> None:
    """Run the sections, and print a table of each."""
    import torch

    from monai_sagan.bench.sections import Bench
    from monai_sagan.bench.workloads import Size
    from monai_sagan.engines.compiled import has_bfloat16_matrix_units
    from monai_sagan.methods import find_method
    from monai_sagan.models.device import check_device, default_device

    sections = arguments.sections or list(SECTIONS[: 1 if arguments.method else 2])
    if unknown := set(sections) - set(SECTIONS):
        raise SaganError(f"no section {sorted(unknown)[0]!r}; the sections are {', '.join(SECTIONS)}")
    if arguments.method:
        find_method(arguments.method)  # raises for an unknown one before anything takes time
    device = str(check_device(arguments.device or default_device()))
    gpu = torch.device(device).type == "cuda"
    small = (arguments.size or ("paper" if gpu else "small")) == "small"
    given = {name: value for name in SIZES if (value := getattr(arguments, name)) is not None}
    size = replace(Size(**(SMALL if small else {})), **given)
    variants = [
        *([", bfloat16"] if gpu or arguments.bfloat16 or has_bfloat16_matrix_units() else []),
        *(["compiled"] if gpu or arguments.compiled else []),
    ]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {"device": _device_name(device), "torch": torch.__version__, "size": asdict(size)}
    shown = f"{arguments.method} at {arguments.preset}" if arguments.method else _shown(size)
    print(f"{found['device']}, torch {torch.__version__}; {shown}; medians of {arguments.rounds} rounds in turn")
    bench = Bench(device, size, variants, arguments.rounds, arguments.threads, arguments.sides)
    found["matrix_flop_per_second"] = bench.matrix
    for section in sections:
        by_method = arguments.method and section == "training"
        found[section] = (
            bench.methods([arguments.method], arguments.preset, given) if by_method else getattr(bench, section)()
        )
    if arguments.output:
        write_text(Path(arguments.output), json.dumps(found, indent=2) + "\n")


def _shown(size: Size) -> str:
    return (
        f"{size.channels} channels, {size.num_res_blocks} residual blocks, batch {size.batch_size}, "
        f"{size.side} x {size.side}"
    )


def _device_name(device: str) -> str:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    features = torch.backends.cpu.get_cpu_capability()
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {features}"
