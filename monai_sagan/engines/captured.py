"""Iterations that a GPU replays as a CUDA graph: launched at once, and not kernel by kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from monai_sagan.distributed import rank_and_count

__all__ = ["WARM_UP", "CapturedStep", "CudaGraph", "Stage", "can_capture"]

logger = logging.getLogger(__name__)

Stage = tuple[Any, dict[str, Tensor]]  # an event of an iteration, and what was found until then
Found = TypeVar("Found")

WARM_UP = 3  # calls in which compilers, cuDNN and optimizers make what they keep


def can_capture(device: str | torch.device) -> bool:
    """Whether training on ``device`` can be captured: on CUDA, by one process (several speak to each other in it)."""
    return torch.device(device).type == "cuda" and rank_and_count()[1] == 1


class CudaGraph:
    """Kernels that were recorded once, and that a GPU runs again and again at one word of the host.

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
    """A training step that runs as it is three times, is then captured as a graph, and from then on replayed.

    A replay runs the same kernels on the same memory. So ``step`` draws nothing, asks for no number on the host, and
    what differs from call to call comes in as inputs; learning rates may differ, too. Where inputs of another shape
    come, other hyperparameters, or other ``fixed`` values, the step is captured anew. Where capturing fails, the reason
    is logged once and the step goes on as it is. In a graph learning rates are float32; but for that, results are those
    of the step as it is. Optimizers must keep all their state on the device: Adam with ``fused=True``.

    Args:
        step: called as ``step(*inputs)`` with tensors of any shape on one device; gives out pairs of an event and a
            dictionary of tensors.
        optimizers: whose ``step`` it calls.
        fixed: returns further values that ``step`` depends on.
        graph: makes what captures and replays, a `CudaGraph`, for a device.
    """

    def __init__(
        self,
        step: Callable[..., Iterable[Stage]],
        optimizers: Sequence[torch.optim.Optimizer],
        fixed: Callable[[], tuple[Any, ...]],
        graph: Callable[[torch.device], Any] = CudaGraph,
    ) -> None:
        self._step = step
        self._optimizers = list(optimizers)
        self._fixed = fixed
        self._make_graph = graph
        self._failed = False
        self._begin(None, [])

    def _begin(self, key: Any, states: list[Any]) -> None:
        self._key, self._states = key, states
        self._calls = 0
        self._graph: Any = None
        self._stages: list[Stage] | None = None  # of the captured step: memory that replays write

    def __call__(self, *inputs: Tensor) -> list[Stage]:
        """The stages of one step on ``inputs``, all at its end."""
        if self._failed:
            return list(self._step(*inputs))
        key, states = self._depends_on(inputs), [optimizer.state for optimizer in self._optimizers]
        # Loading an optimizer's state replaces the tensors that a graph writes.
        if key != self._key or any(a is not b for a, b in zip(states, self._states, strict=True)):
            self._begin(key, states)
        if self._calls < WARM_UP:
            self._calls += 1
            self._graph = self._graph or self._make_graph(inputs[0].device)
            warmed_up: list[Stage] = self._graph.warm_up(lambda: list(self._step(*inputs)))
            return warmed_up
        if self._stages is None and not self._capture(inputs):
            return list(self._step(*inputs))
        return self._replay(inputs)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _depends_on(self, inputs: Sequence[Tensor]) -> Any:
        options = [{name: group[name] for name in group if name not in ("params", "lr")} for group in self._groups()]
        rates = [id(group["lr"]) if torch.is_tensor(group["lr"]) else None for group in self._groups()]
        return [(tuple(x.shape), x.dtype) for x in inputs], options, rates, self._fixed()

    def _capture(self, inputs: Sequence[Tensor]) -> bool:
        self._inputs = [x.clone() for x in inputs]
        self._rates = [_Rate(group, inputs[0].device) for group in self._groups() if not torch.is_tensor(group["lr"])]
        try:
            with _capturable(self._groups(), self._rates):
                self._stages = self._graph.capture(lambda: list(self._step(*self._inputs)))
        except Exception as error:  # what is wrong with the step itself shows when it runs as it is
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            mend = "; make Adam with fused=True" if "capturable" in reason else ""
            logger.warning(
                f"no CUDA graph of the training step ({reason}); training goes on without, more slowly{mend}"
            )
            self._failed = True
            self._graph = None
        return not self._failed

    def _replay(self, inputs: Sequence[Tensor]) -> list[Stage]:
        assert self._stages is not None
        torch._foreach_copy_(self._inputs, list(inputs))
        for rate in self._rates:
            rate.update()
        self._graph.replay()
        # The next replay overwrites what this one found.
        return [(event, {name: value.clone() for name, value in found.items()}) for event, found in self._stages]


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
