"""Scoring a folder of images by an exported model, without torch or MONAI where the model is ONNX."""

from __future__ import annotations

from monai_sagan.predict.run import predict
from monai_sagan.predict.summary import Summary

__all__ = ["Summary", "predict"]
