"""What a CUDA graph does, done on the CPU: operations are recorded without effect, and run again on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = tuple[Any, tuple[Any, ...], dict[str, Any], Any]


class RecordedGraph:
    """Takes the place of `CudaGraph`: as there, capturing changes nothing, and a replay computes everything again."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.replays = 0

    def warm_up(self, code: Callable[[], Any]) -> Any:
        return code()

    def capture(self, code: Callable[[], Any]) -> Any:
        recorder = _Recorder()
        with recorder:
            found = code()
        with torch.no_grad():
            for tensor, value in reversed(recorder.before):
                tensor.copy_(value)
            for func, _, _, result in recorder.calls:
                for tensor in _fresh(func, result):
                    tensor.fill_(torch.nan if tensor.is_floating_point() else 0)  # nothing may rely on what is there
        self.calls = recorder.calls
        return found

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, result in self.calls:
                if _is_view(func):
                    continue
                again = func(*args, **kwargs)
                for tensor, value in zip(_fresh(func, result), _fresh(func, again), strict=True):
                    tensor.copy_(value)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"{func} draws")
        self.before += [(tensor, tensor.clone()) for tensor in _written(func, args, kwargs)]
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            yield from (tensor.detach() for tensor in tree_leaves(value) if isinstance(tensor, Tensor))


def _is_view(func: Any) -> bool:
    return not func._schema.is_mutable and any(result.alias_info is not None for result in func._schema.returns)


def _fresh(func: Any, result: Any) -> list[Tensor]:
    """The results that are memory of their own."""
    if func._schema.is_mutable or _is_view(func):
        return []
    return [tensor.detach() for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
