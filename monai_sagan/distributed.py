"""Several processes that train one model, a GPU each: which one writes, who waits, how gradients become one.

The processes are started by torchrun, and joined by torch.distributed; without it all this does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "average_gradients",
    "is_main",
    "is_not_main",
    "join_processes",
    "main_first",
    "mean_of_processes",
    "rank_and_count",
]


def rank_and_count() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are; (0, 1) where there is but one."""
    distributed: Any = sys.modules.get("torch.distributed")  # who has not imported it has not joined any others
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return rank_and_count()[0] == 0


def is_not_main() -> bool:
    """Whether another process is the one that writes files."""
    return not is_main()


def join_processes() -> torch.device:
    """Join the processes that torchrun started; returns this one's device: a GPU of its own, or the CPU.

    Raises:
        SaganError: when torchrun did not start this process, or there are fewer GPUs than processes.
    """
    import os

    import torch
    from torch import distributed

    if "RANK" not in os.environ:
        raise SaganError(
            "multi_gpu_train.json is for several processes; start it as: torchrun --nproc_per_node=2 -m monai.bundle "
            "run --config_file \"['train.json','multi_gpu_train.json']\", or leave it out"
        )
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if gpus and local >= gpus:
        raise SaganError(f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']} is more than the {gpus} GPUs; lower it")
    if not distributed.is_initialized():
        # Scores are gathered on the CPU, gradients where they are.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if not gpus:
        return torch.device("cpu")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def main_first() -> Iterator[None]:
    """The body runs in the main process first, then in all others, which find on the disk what that one wrote."""
    rank, count = rank_and_count()
    if rank:
        _wait()
    yield
    if count > 1 and not rank:
        _wait()


def _wait() -> None:
    from torch import distributed

    with _told_when_lost():
        distributed.barrier()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give each parameter the mean of its gradients over all processes: what one process would get of all images.

    Not by DistributedDataParallel: that renames what is saved, so that one process could not resume a run of several,
    and it does not take the critic, whose gradient with respect to its input is part of its loss.

    Args:
        parameters: of any shape, in the same order in all processes; those without a gradient are left out.

    Raises:
        SaganError: when another process has died.
    """
    mean_of_processes([parameter.grad for parameter in parameters if parameter.grad is not None])


def mean_of_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place; all processes give tensors of the same shapes.

    Args:
        tensors: of any shape, all of one type and on one device.

    Raises:
        SaganError: when another process has died.
    """
    count = rank_and_count()[1]
    if count == 1 or not tensors:
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message instead of a hundred
    with _told_when_lost():
        distributed.all_reduce(flat)
    flat /= count
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


@contextmanager
def _told_when_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's DistBackendError is one
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(
            f"lost another process of this run ({reason}); its own output says why; the same command resumes the run"
        ) from None
