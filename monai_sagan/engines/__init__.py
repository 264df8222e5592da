"""SAGAN's engines."""

from monai_sagan.engines.trainer import SaganTrainer

__all__ = ["SaganTrainer"]
