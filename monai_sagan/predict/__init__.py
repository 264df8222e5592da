"""Score a folder of images with an exported model; ONNX artifacts need neither torch nor MONAI."""

from __future__ import annotations

from monai_sagan.predict.run import predict
from monai_sagan.predict.summary import Summary as Summary

__all__ = ["predict"]
