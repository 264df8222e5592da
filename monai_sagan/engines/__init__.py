"""Engines for training, validation, evaluation and inference."""

from monai_sagan.engines.trainer import SaganTrainer, StagedTrainer
from monai_sagan.engines.validation import StagedEvaluator as StagedEvaluator

__all__ = ["SaganTrainer", "StagedTrainer"]
