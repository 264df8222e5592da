"""Keeping memory that a training step frees, for the next step to take."""

from __future__ import annotations

import ctypes
import sys

import torch

__all__ = ["keep_freed_memory", "peak_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory instead of giving it back to the system; returns whether it could.

    A training step on the CPU frees and takes the same large blocks again and again; each time the system would hand
    out zeroed pages again, about a tenth of the step's time. Memory once taken stays taken until the process ends.
    Elsewhere than on Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    large = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, large)) and bool(mallopt(M_TRIM_THRESHOLD, large))


def peak_memory(device: str | torch.device) -> int:
    """Greatest memory in bytes so far: allocated on a GPU, or of this process on a CPU; 0 where that is not known.

    >>> peak_memory("cpu") >= 0
    True
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
