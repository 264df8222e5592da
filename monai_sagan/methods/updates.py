"""Random draws and optimizer steps shared by the methods, for one or several processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_sagan.distributed import average_gradients, mean_of_processes, rank_and_count


def draw_uniform(like: Tensor) -> Tensor:
    """Draw uniform numbers of a tensor's shape (B, ...); each process takes its part of one common draw."""
    rank, count = rank_and_count()
    n = len(like)
    return torch.rand(count * n, *like.shape[1:], device=like.device)[rank * n : (rank + 1) * n]


def of_all_processes(**values: Tensor) -> dict[str, Tensor]:
    """Average detached losses over all processes."""
    found = {name: value.detach() for name, value in values.items()}
    if rank_and_count()[1] > 1:
        found = {name: value.clone() for name, value in found.items()}
        mean_of_processes(list(found.values()))
    return found


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one optimizer step on a loss, with gradients averaged over all processes."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(parameter for group in optimizer.param_groups for parameter in group["params"])
    optimizer.step()


def average_statistics(network: nn.Module) -> None:
    """Give the buffers of a network, such as the running statistics of batch norms, their mean over all processes."""
    mean_of_processes([buffer for buffer in network.buffers() if buffer.is_floating_point()])
