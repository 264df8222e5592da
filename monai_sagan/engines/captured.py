"""Training steps that a GPU replays as CUDA graphs: launched at once instead of kernel by kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from monai_sagan.methods.method import EventOutput

__all__ = ["WARM_UP", "CapturedStep", "CudaGraph", "Step", "can_capture"]

logger = logging.getLogger(__name__)

Step = Callable[..., Iterable[EventOutput]]  # step(variant, *inputs)
Found = TypeVar("Found")

WARM_UP = 3  # calls in which compilers, cuDNN and optimizers make what they keep


def can_capture(device: str | torch.device, processes: int) -> bool:
    """Whether training can be captured: on CUDA, by one process, for several communicate within a step.

    Args:
        device: where to train.
        processes: that train one model together.
    """
    return torch.device(device).type == "cuda" and processes == 1


class CudaGraph:
    """Kernels that are recorded once and replayed with a single launch.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, code: Callable[[], Found]) -> Found:
        """Run ``code`` on the stream of its own that capturing needs, and return what it returns."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = code()
        current.wait_stream(self._stream)
        return found

    def capture(self, code: Callable[[], Found]) -> Found:
        """Record ``code`` without running it; what it returns gets its values from `replay`.

        Raises:
            RuntimeError: where ``code`` does what a graph cannot hold.
        """
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(self._graph, stream=self._stream):
                    return code()
            finally:
                torch.cuda.set_stream(current)  # torch leaves its own one current when ending a capture fails

    def replay(self) -> None:
        """Run what was recorded."""
        with torch.cuda.device(self._device):
            self._graph.replay()


class CapturedStep:
    """A training step ``step(variant, *inputs)``, each variant captured as a graph after three calls, then replayed.

    A replay runs the same kernels on the same memory. So ``step`` draws nothing, asks for no number on the host, and
    what differs from call to call comes in as inputs; learning rates may differ, too. A variant is captured again when
    the inputs' shapes, the hyperparameters, or the ``fixed`` values change, or an optimizer's state is loaded. Where
    capturing fails, the reason is logged once and the variant runs uncaptured from then on. In a graph learning rates
    are float32; otherwise the results are those of ``step``. Optimizers must keep all their state on the device: Adam
    with ``fused=True``.

    Args:
        step: called with a variant and tensors of any shape on one device; yields pairs of an event and a dictionary
            of tensors.
        optimizers: all that any variant steps.
        fixed: returns further values that ``step`` depends on.
        graph: makes what captures and replays, a `CudaGraph`, for a device.
    """

    def __init__(
        self,
        step: Step,
        optimizers: Sequence[torch.optim.Optimizer],
        fixed: Callable[[], tuple[Any, ...]] = tuple,
        graph: Callable[[torch.device], Any] = CudaGraph,
    ) -> None:
        self._step = step
        self._optimizers = list(optimizers)
        self._fixed = fixed
        self._make_graph = graph
        self._variants: dict[Hashable, _Variant] = {}
        self._failed: set[Hashable] = set()

    def __call__(self, variant: Hashable, *inputs: Tensor) -> list[EventOutput]:
        """What one step of ``variant`` on ``inputs`` yields, all at its end."""

        def step(*tensors: Tensor) -> list[EventOutput]:
            return list(self._step(variant, *tensors))

        if variant in self._failed:
            return step(*inputs)
        one = self._variant(variant, inputs)
        if one.calls < WARM_UP:
            one.calls += 1
            warmed_up: list[EventOutput] = one.graph.warm_up(lambda: step(*inputs))
            return warmed_up
        if one.outputs is None:
            try:
                one.capture(step, inputs, self._groups())
            except Exception as error:  # what is wrong with the step itself shows when it runs uncaptured
                _log_failure(error)
                self._failed.add(variant)
                del self._variants[variant]
                return step(*inputs)
        return one.replay(inputs)

    def _variant(self, variant: Hashable, inputs: Sequence[Tensor]) -> _Variant:
        """What is known of a variant, started again where something changed that its graph takes for granted."""
        key, states = self._depends_on(inputs), [optimizer.state for optimizer in self._optimizers]
        one = self._variants.get(variant)
        # Loading an optimizer's state replaces the tensors that a graph writes.
        if one is None or one.key != key or any(a is not b for a, b in zip(states, one.states, strict=True)):
            one = self._variants[variant] = _Variant(key, states, self._make_graph(inputs[0].device))
        return one

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _depends_on(self, inputs: Sequence[Tensor]) -> Any:
        options = [{name: group[name] for name in group if name not in ("params", "lr")} for group in self._groups()]
        rates = [id(group["lr"]) if torch.is_tensor(group["lr"]) else None for group in self._groups()]
        return [(tuple(x.shape), x.dtype) for x in inputs], options, rates, self._fixed()


class _Variant:
    """A variant of a step: its graph and the memory that replays read and write."""

    def __init__(self, key: Any, states: list[Any], graph: Any) -> None:
        self.key, self.states, self.graph = key, states, graph
        self.calls = 0
        self.outputs: list[EventOutput] | None = None  # of the captured step

    def capture(
        self, step: Callable[..., list[EventOutput]], inputs: Sequence[Tensor], groups: Sequence[dict[str, Any]]
    ) -> None:
        self._inputs = [x.clone() for x in inputs]
        self._rates = [_Rate(group, inputs[0].device) for group in groups if not torch.is_tensor(group["lr"])]
        with _capturable(groups, self._rates):
            self.outputs = self.graph.capture(lambda: step(*self._inputs))

    def replay(self, inputs: Sequence[Tensor]) -> list[EventOutput]:
        assert self.outputs is not None
        torch._foreach_copy_(self._inputs, list(inputs))
        for rate in self._rates:
            rate.update()
        self.graph.replay()
        # The next replay overwrites these outputs.
        return [(event, {name: value.clone() for name, value in found.items()}) for event, found in self.outputs]


def _log_failure(error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    fix = "; make Adam with fused=True" if "capturable" in reason else ""
    logger.warning(f"no CUDA graph of the training step ({reason}); training goes on without, more slowly{fix}")


class _Rate:
    """The learning rate of an optimizer's ``group`` in memory of the device, where a graph finds it."""

    def __init__(self, group: dict[str, Any], device: torch.device) -> None:
        self.group, self.last = group, group["lr"]
        self.on_device = torch.tensor(self.last, dtype=torch.float32, device=device)

    def update(self) -> None:
        """Write it when it has changed."""
        if self.group["lr"] != self.last:
            self.last = self.group["lr"]
            self.on_device.fill_(self.last)


@contextmanager
def _capturable(groups: Sequence[dict[str, Any]], rates: Sequence[_Rate]) -> Iterator[None]:
    """While this lasts, optimizers read their learning rates from the device, and may be captured."""
    names = ("lr", "capturable")
    kept: list[dict[str, Any]] = [{name: group[name] for name in names if name in group} for group in groups]
    try:
        for group in groups:
            group.update({"capturable": True} if "capturable" in group else {})
        for rate in rates:
            rate.group["lr"] = rate.on_device
        yield
    finally:
        for group, values in zip(groups, kept, strict=True):
            group.update(values)
