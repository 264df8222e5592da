"""Ignite handlers for training runs, beside those of MONAI."""

from monai_sagan.handlers.average import AverageWeights
from monai_sagan.handlers.checkpoint import ResumeCheckpoint
from monai_sagan.handlers.cost import TrainingCost
from monai_sagan.handlers.history import History
from monai_sagan.handlers.keep_models import KeepModels, scores_and_labels
from monai_sagan.handlers.nonfinite import StopOnNonFinite
from monai_sagan.handlers.oracle import OracleTest as OracleTest
from monai_sagan.handlers.progress import Progress as Progress
from monai_sagan.handlers.tensorboard import TensorBoardTriptychs
from monai_sagan.handlers.tensorboard import scalar_outputs as scalar_outputs

__all__ = [
    "AverageWeights",
    "History",
    "KeepModels",
    "ResumeCheckpoint",
    "StopOnNonFinite",
    "TensorBoardTriptychs",
    "TrainingCost",
    "scores_and_labels",
]
