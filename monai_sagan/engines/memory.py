"""Keep freed memory in the process, for the next training step."""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system; return whether that succeeded.

    A training step on the CPU frees and allocates the same large blocks repeatedly; zeroed pages from the system would
    take about a tenth of its time. The process keeps its peak memory until it ends. Does nothing without glibc.
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
