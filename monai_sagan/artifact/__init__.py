"""Models that leave: one folder with a model of any format, its facts, its license, hashes and a self-test.

Importing this, and opening an ONNX artifact, takes numpy and onnxruntime alone; `monai_sagan.artifact.export` writes.
"""

from __future__ import annotations

from monai_sagan.artifact.opening import Artifact, open_artifact

__all__ = ["Artifact", "open_artifact"]
