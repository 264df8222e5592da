"""Where random numbers come from: every draw of training is a function of the run's seed and the step."""

from __future__ import annotations

__all__ = ["step_seed"]


def step_seed(seed: int, step: int) -> int:
    """A seed for everything that is drawn at ``step`` of a run: a function of both, different for each pair."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
