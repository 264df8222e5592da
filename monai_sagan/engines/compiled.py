"""Eager or compiled execution of the networks and losses of a training step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from monai_sagan.errors import SaganError

logger = logging.getLogger(__name__)

ENGINES = ("eager", "compiled")
WORTH_COMPILING = 2000  # iterations: two cores compile for two to three minutes, and gain .12 s an iteration or more


def check_engine(engine: str, *others: str) -> str:
    """Return ``engine`` if it is ``"eager"``, ``"compiled"`` or one of ``others``; otherwise raise a SaganError."""
    words = (*ENGINES, *others)
    if engine not in words:
        raise SaganError(f"engine is {engine!r}; use one of {', '.join(words)}")
    return engine


def choose_engine(engine: str, device: str | torch.device, amp: bool, iterations: int) -> str:
    """Return ``engine``, or for ``"auto"`` the one expected to be faster for a run, see `compiling_pays`.

    Raises:
        SaganError: for an unknown engine.
    """
    if check_engine(engine, "auto") != "auto":
        return engine
    return "compiled" if compiling_pays(device, amp, iterations, has_bfloat16_matrix_units()) else "eager"


def compiling_pays(device: str | torch.device, amp: bool, iterations: int, matrix_units: bool) -> bool:
    """Whether a run is expected to finish earlier when compiled.

    Compiling pays where convolutions are so fast that the operations between them count: in bfloat16 on a CPU with
    matrix units (AMX), for two thousand iterations or more. In float32 a CPU gains a fifth at most, and GPUs were not
    measured: both run eagerly.
    """
    return amp and iterations >= WORTH_COMPILING and torch.device(device).type == "cpu" and matrix_units


def has_bfloat16_matrix_units() -> bool:
    """Whether this CPU has bfloat16 matrix units (AMX); False if torch does not report it."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return bool(capabilities.get("amx_bf16", False))


def compile_for(engine: str, code: Callable[..., Any], device: str | torch.device) -> Callable[..., Any]:
    """Compile ``code``, a function or module of tensors, for a device; with the engine ``"eager"`` return it unchanged.

    One graph is compiled for each combination of shapes and other arguments. If the compiler fails (it needs a C++
    compiler on the CPU, Triton on CUDA), the reason is logged once and ``code`` runs eagerly, with the same results up
    to rounding.
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
                logger.warning(f"torch.compile failed ({reason}); training continues eagerly, more slowly")
        return code(*args, **kwargs)

    return run
