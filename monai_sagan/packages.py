"""Packages that provide optional modules, for the install commands in messages."""

from __future__ import annotations

__all__: list[str] = []

# By purpose. setup.py has the same under `extras_require`, with versions, for a checkout.
TOGETHER = {
    "dicom": ("python-gdcm", "pylibjpeg", "pylibjpeg-openjpeg", "pyjpegls"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "training": ("torch", "monai", "pytorch-ignite", "scikit-learn", "matplotlib", "tensorboard"),
}
BROUGHT_BY = {"ignite": "pytorch-ignite", "sklearn": "scikit-learn", "PIL": "pillow"}


def pip_install(name: str) -> str:
    """The command that installs a missing module, or all packages for a purpose in `TOGETHER`.

    >>> pip_install("dicom")
    'pip install python-gdcm pylibjpeg pylibjpeg-openjpeg pyjpegls'
    """
    module = name.partition(".")[0]
    return " ".join(["pip install", *TOGETHER.get(module, (BROUGHT_BY.get(module, module),))])
