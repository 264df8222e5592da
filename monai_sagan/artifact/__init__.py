"""Exported models: a folder with the model in one of several formats, its facts, license, hashes and self-test.

Opening an ONNX artifact needs NumPy and onnxruntime only; `monai_sagan.artifact.export` writes artifacts.
"""

from __future__ import annotations

from monai_sagan.artifact.opening import Artifact, open_artifact

__all__ = ["Artifact", "open_artifact"]
