"""Eager or compiled: how the networks and losses of a training step are run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from monai_sagan.errors import SaganError

__all__ = ["ENGINES", "check_engine", "choose_engine", "compile_for", "compiling_pays"]

logger = logging.getLogger(__name__)

ENGINES = ("eager", "compiled")
WORTH_COMPILING = 2000  # iterations: two cores compile for two to three minutes, and gain .12 s an iteration or more


def check_engine(engine: str, *others: str) -> str:
    """``engine``, when it is ``"eager"`` or ``"compiled"``, or one of the ``others``.

    Raises:
        SaganError: for another word.
    """
    words = (*ENGINES, *others)
    if engine not in words:
        raise SaganError(f"engine is {engine!r}; use one of {', '.join(words)}")
    return engine


def choose_engine(engine: str, device: str | torch.device, amp: bool, iterations: int) -> str:
    """``engine``, or for ``"auto"`` what was measured to be the faster one for such a run, see `compiling_pays`.

    Args:
        engine: ``"auto"``, ``"eager"`` or ``"compiled"``.
        device: where to train.
        amp: whether the networks run in bfloat16.
        iterations: of the run.

    Raises:
        SaganError: for another word.
    """
    if check_engine(engine, "auto") != "auto":
        return engine
    return "compiled" if compiling_pays(device, amp, iterations, has_bfloat16_matrix_units()) else "eager"


def compiling_pays(device: str | torch.device, amp: bool, iterations: int, matrix_units: bool) -> bool:
    """Whether a run is expected to end earlier compiled.

    Compiled code pays where convolutions are so fast that everything between them counts: on a CPU with units for
    bfloat16 matrices (AMX), in bfloat16, in a run of two thousand iterations or more. In float32 a CPU gains a fifth at
    most, and GPUs were not measured: both are eager.

    Args:
        device: where to train.
        amp: whether the networks run in bfloat16.
        iterations: of the run.
        matrix_units: whether the CPU has units for bfloat16 matrices.
    """
    return amp and iterations >= WORTH_COMPILING and torch.device(device).type == "cpu" and matrix_units


def has_bfloat16_matrix_units() -> bool:
    """Whether this CPU has units for bfloat16 matrices (AMX); False where torch does not report it."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return bool(capabilities.get("amx_bf16", False))


def compile_for(engine: str, code: Callable[..., Any], device: str | torch.device) -> Callable[..., Any]:
    """``code``, compiled as one graph for each shape of its tensors and value of its other arguments, or unchanged.

    Where the compiler fails (it needs a C++ compiler on the CPU, Triton on CUDA) the reason is logged once and ``code``
    runs eagerly: the results are the same up to rounding.

    Args:
        engine: ``"eager"`` or ``"compiled"``.
        code: a function or module of tensors, without optimizer steps.
        device: where it runs.
    """
    if engine == "eager":
        return code
    # On CUDA the compiler would leave the channels-last layout around convolutions of one channel, and copy.
    options: dict[str, Any] | None = (
        {"force_layout_optimization": True} if torch.device(device).type == "cuda" else None
    )
    compiled = torch.compile(code, fullgraph=True, dynamic=False, options=options)
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
