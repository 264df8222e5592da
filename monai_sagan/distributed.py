"""Training of one model by several processes, started by torchrun, each with its own GPU.

Without torch.distributed these functions do nothing.
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


def rank_and_count() -> tuple[int, int]:
    """The rank of this process and the number of processes; (0, 1) for a single process."""
    distributed: Any = sys.modules.get("torch.distributed")  # without the import, no others were joined
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_main() -> bool:
    """Whether this process writes the files."""
    return rank_and_count()[0] == 0


def is_not_main() -> bool:
    """Whether another process writes the files."""
    return not is_main()


def join_processes() -> torch.device:
    """Join the processes started by torchrun; return the device of this one: its own GPU, or the CPU.

    Raises:
        SaganError: if this process was not started by torchrun, or there are fewer GPUs than processes.
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
        # Scores are gathered on the CPU, gradients on their device.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    if not gpus:
        return torch.device("cpu")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def main_first() -> Iterator[None]:
    """Run the body in the main process first, then in the others, which read the files that it wrote."""
    rank, count = rank_and_count()
    if rank:
        _wait()
    yield
    if count > 1 and not rank:
        _wait()


def _wait() -> None:
    from torch import distributed

    with _report_lost_process():
        distributed.barrier()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients of parameters over all processes; those without a gradient are skipped.

    DistributedDataParallel would rename the saved weights, so that a single process could not resume the run, and does
    not support the critic's gradient penalty.

    Raises:
        SaganError: if another process has died.
    """
    mean_of_processes([parameter.grad for parameter in parameters if parameter.grad is not None])


def mean_of_processes(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their means over all processes, in place.

    Raises:
        SaganError: if another process has died.
    """
    count = rank_and_count()[1]
    if count == 1 or not tensors:
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.flatten() for tensor in tensors])  # one message instead of a hundred
    with _report_lost_process():
        distributed.all_reduce(flat)
    flat /= count
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


@contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's DistBackendError is one
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(
            f"lost another process of this run ({reason}); its own output says why; the same command resumes the run"
        ) from None
