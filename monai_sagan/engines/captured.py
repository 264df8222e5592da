"""Training steps captured as CUDA graphs and replayed with a single launch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from monai_sagan.methods.method import EventOutput

logger = logging.getLogger(__name__)

Step = Callable[..., Iterable[EventOutput]]  # step(variant, *inputs)
Found = TypeVar("Found")

WARM_UP = 3  # calls in which compilers, cuDNN and optimizers make what they keep


def can_capture(device: str | torch.device, processes: int) -> bool:
    """Whether training can be captured: on CUDA and in a single process, since several communicate within a step."""
    return torch.device(device).type == "cuda" and processes == 1


class CudaGraph:
    """Kernels on a GPU, recorded once and replayed with a single launch."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, code: Callable[[], Found]) -> Found:
        """Run ``code`` on the separate stream that capturing needs, and return its result."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = code()
        current.wait_stream(self._stream)
        return found

    def capture(self, code: Callable[[], Found]) -> Found:
        """Record ``code`` without running it; `replay` fills the tensors that this returns.

        Raises:
            RuntimeError: for operations that cannot be captured.
        """
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            try:
                with torch.cuda.graph(self._graph, stream=self._stream):
                    return code()
            finally:
                torch.cuda.set_stream(current)  # torch leaves its own one current when ending a capture fails

    def replay(self) -> None:
        """Run the recorded kernels."""
        with torch.cuda.device(self._device):
            self._graph.replay()


class CapturedStep:
    """A training step ``step(variant, *inputs)`` that captures each variant after three calls and then replays it.

    A replay runs the same kernels on the same memory. So ``step`` must not draw or read values on the host; only inputs
    and learning rates may change between calls. A variant is captured again when the inputs' shapes, the
    hyperparameters, or the ``fixed`` values change, or an optimizer's state is loaded. If capturing fails, the reason
    is logged once and the variant runs uncaptured. Results are those of ``step``, except that captured learning rates
    are float32. Optimizers must keep all their state on the device: Adam with ``fused=True``.

    Args:
        step: called with a variant and tensors of any shape on one device; yields pairs of an event and a dictionary
            of tensors.
        optimizers: stepped by any variant.
        fixed: returns further values that ``step`` depends on.
        graph: builds the `CudaGraph` for a device.
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
        """Run one step of ``variant`` on ``inputs`` and return all its outputs."""

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
            except Exception as error:  # an error of the step itself is raised again when it runs uncaptured
                _log_failure(error)
                self._failed.add(variant)
                del self._variants[variant]
                return step(*inputs)
        return one.replay(inputs)

    def _variant(self, variant: Hashable, inputs: Sequence[Tensor]) -> _Variant:
        """The state of a variant, reset when its graph is out of date."""
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
    logger.warning(f"no CUDA graph of the training step ({reason}); training continues without it, more slowly{fix}")


class _Rate:
    """The learning rate of an optimizer's ``group``, on the device for graphs to read."""

    def __init__(self, group: dict[str, Any], device: torch.device) -> None:
        self.group, self.last = group, group["lr"]
        self.on_device = torch.tensor(self.last, dtype=torch.float32, device=device)

    def update(self) -> None:
        """Copy it to the device if it has changed."""
        if self.group["lr"] != self.last:
            self.last = self.group["lr"]
            self.on_device.fill_(self.last)


@contextmanager
def _capturable(groups: Sequence[dict[str, Any]], rates: Sequence[_Rate]) -> Iterator[None]:
    """Within the context, optimizers read their learning rates from the device and can be captured."""
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
