"""Eager or compiled: how the networks and losses of a training step are run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from monai_sagan.errors import SaganError

__all__ = ["ENGINES", "check_engine", "made_for"]

logger = logging.getLogger(__name__)

ENGINES = ("eager", "compiled")


def check_engine(engine: str) -> str:
    """``engine``, when it is ``"eager"`` or ``"compiled"``.

    Raises:
        SaganError: for another word.
    """
    if engine not in ENGINES:
        raise SaganError(f"engine is {engine!r}; use one of {', '.join(ENGINES)}")
    return engine


def made_for(engine: str, code: Callable[..., Any]) -> Callable[..., Any]:
    """``code``, compiled as one graph for each shape of its input, or as it is.

    Where the compiler fails (it needs a C++ compiler on the CPU, Triton on CUDA) the reason is logged once and ``code``
    runs eagerly: the results are the same up to rounding.

    Args:
        engine: ``"eager"`` or ``"compiled"``.
        code: a function or module of tensors.
    """
    if engine == "eager":
        return code
    compiled = torch.compile(code, fullgraph=True, dynamic=False)
    failed = False

    def run(*args: Any, **kwargs: Any) -> Any:
        nonlocal failed
        if not failed:
            try:
                return compiled(*args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                failed = True
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning(f"torch.compile failed ({reason}); training goes on eagerly, more slowly")
        return code(*args, **kwargs)

    return run
