"""Seeds of random draws in training, each a function of the run's seed and the step."""

from __future__ import annotations


def step_seed(seed: int, step: int) -> int:
    """Derive the seed of all draws at a step of a run, different for each pair."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
