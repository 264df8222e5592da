"""Seeds of the steps."""

from __future__ import annotations

import torch

from monai_sagan.seeds import step_seed


def test_each_pair_has_its_own_seed_even_in_32_bits():
    # torch's generator on the CPU takes the low 32 bits of a seed.
    pairs = [(seed, step) for seed in (*range(8), 1234, 2**31) for step in range(-500, 20_000)]
    assert len({step_seed(*pair) % 2**32 for pair in pairs}) == len(pairs)


def test_seeds_are_ones_that_torch_takes():
    for pair in [(0, 0), (0, -1), (-1, 0), (2**32, 10**9), (1, 100_000)]:
        assert 0 <= step_seed(*pair) < 2**63
        torch.Generator().manual_seed(step_seed(*pair))


def test_draws_of_neighboring_steps_are_unlike():
    draws = torch.stack([torch.rand(500, generator=torch.Generator().manual_seed(step_seed(0, t))) for t in range(20)])
    assert (torch.corrcoef(draws) - torch.eye(20)).abs().max() < 0.25
