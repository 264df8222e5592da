"""Engines that train and validate."""

from monai_sagan.engines.trainer import SaganTrainer, StagedTrainer
from monai_sagan.engines.validation import StagedEvaluator

__all__ = ["SaganTrainer", "StagedEvaluator", "StagedTrainer"]
