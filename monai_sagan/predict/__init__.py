"""Scoring a folder of images, without torch or MONAI where the model is an ONNX artifact."""

from __future__ import annotations

from monai_sagan.predict.run import predict
from monai_sagan.predict.summary import Summary

__all__ = ["Summary", "predict"]
