"""Counts of the arithmetic, the operations and the waits of a piece of code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

# What makes the host wait for a device: reading a number, or a result whose shape depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero", "equal")


@dataclass
class Counts:
    """What was counted while code ran."""

    # floating point operations of convolutions and matrix products; an addition and a multiplication are two
    flop: int = 0
    operations: int = 0  # calls of torch's dispatcher, each a kernel or a few: what a device is launched for
    # operations that need a value of the device on the host, or wait until one is copied there: on a GPU each stops the
    # queue. Counters that an optimizer keeps on the host are none. On a CPU, copies to a device are not seen, nor what
    # an optimizer would wait for
    waits: int = 0


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = Counts()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        if packet not in flop_registry:
            with self:  # in inference mode a convolution arrives as what is made of it
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        result = func(*args, **(kwargs or {}))
        self.counts.operations += 1
        self.counts.waits += _waits(packet, args, kwargs or {}, result)
        if packet in flop_registry:
            self.counts.flop += int(flop_registry[packet](*args, **(kwargs or {}), out_val=result))
        return result


def _waits(packet: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> bool:
    sources = {arg.device.type for arg in args if isinstance(arg, torch.Tensor)}
    if packet.__name__ in WAITS:
        return not (sources == {"cpu"} and _of_an_optimizer())
    if packet not in (torch.ops.aten._to_copy, torch.ops.aten.copy_) or not isinstance(result, torch.Tensor):
        return False
    between = len(sources | {result.device.type}) > 1
    return between and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))


def _of_an_optimizer() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if "/torch/optim/" in frame.f_code.co_filename.replace("\\", "/"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def count(code: Callable[[], object]) -> Counts:
    """The counts of one call of eager code, its backward passes included."""
    counter = _Counter()
    with counter:
        code()
    return counter.counts


def graphs_and_breaks() -> tuple[int, int]:
    """The numbers of graphs that `torch.compile` made in this process, recompiled ones too, and of graph breaks."""
    counters = torch._dynamo.utils.counters
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
