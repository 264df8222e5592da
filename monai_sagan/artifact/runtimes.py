"""Loaders of each format's model file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sagan.artifact.archive import checked_archive
from monai_sagan.errors import SaganError
from monai_sagan.models.facts import FORMATS, Facts
from monai_sagan.packages import pip_install

OUTPUTS = ("image", "restored", "anomaly_map", "score", "p_value")  # of the graph, in this order
WITHOUT_RESTORED = tuple(name for name in OUTPUTS if name != "restored")  # of methods that do not restore

Runtime = Callable[[NDArray[np.int32], int], Sequence[NDArray[Any]]]  # from images (B, C, H, W) and bits


def load_runtime(folder: Path, facts: Facts, threads: int | None = None) -> Runtime:
    """A function that runs the model of an artifact whose hashes were checked.

    No file is unpickled by Python: ``safetensors`` and ``onnx`` hold no pickles; of ``torch_export`` only tensors and a
    program of torch's operators reach torch, see `monai_sagan.artifact.archive`. TorchScript has its own kind of
    pickle, read by torch's C++: it makes tensors, plain values and objects of the classes that the file itself defines.
    Their code runs inside torch's interpreter, whose operators can read and write files.
    """
    path = folder / FORMATS[facts["format"]]
    try:
        return _LOADERS[facts["format"]](path, threads)
    except SaganError:
        raise
    except ModuleNotFoundError as error:
        needed = error.name or "onnxruntime"
        raise SaganError(f"{path} needs {needed}, which is not installed; {pip_install(needed)}") from None
    except Exception as error:  # each runtime has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(f"{path} cannot be loaded ({reason}); export the model again") from None


def _load_onnx(path: Path, threads: int | None) -> Runtime:
    onnxruntime: Any = import_module("onnxruntime")  # it ships no types
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0  # 0: one for each core
    # The next level, a layout for convolutions, takes half a second of loading and runs no faster.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: NDArray[np.int32], bits: int) -> Sequence[NDArray[Any]]:
        return list(session.run(None, {"image": image, "bits": np.array(bits, np.int64)}))

    return run


def _load_torchscript(path: Path, threads: int | None) -> Runtime:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its own format old
        return _torch_runtime(torch.jit.load(path, map_location="cpu"), threads)


def _load_torch_export(path: Path, threads: int | None) -> Runtime:
    import torch

    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _torch_runtime(torch.export.load(checked_archive(path)).module(), threads)


def _load_safetensors(path: Path, threads: int | None) -> Runtime:
    from monai_sagan.artifact.graph import ScoringGraph
    from monai_sagan.models.trained import load_trained

    return _torch_runtime(ScoringGraph.of(load_trained(path)), threads)


def _torch_runtime(module: Callable[..., Any], threads: int | None) -> Runtime:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def run(image: NDArray[np.int32], bits: int) -> Sequence[NDArray[Any]]:
        return [output.numpy() for output in module(torch.from_numpy(image), torch.tensor(bits))]

    return run


_LOADERS: dict[str, Callable[[Path, int | None], Runtime]] = {
    "safetensors": _load_safetensors,
    "torchscript": _load_torchscript,
    "onnx": _load_onnx,
    "torch_export": _load_torch_export,
}
