"""Writers of a trained model in each format."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from monai_sagan.artifact.archive import without_pickles
from monai_sagan.artifact.graph import ScoringGraph
from monai_sagan.artifact.runtimes import OUTPUTS, WITHOUT_RESTORED
from monai_sagan.errors import SaganError
from monai_sagan.methods import find_method
from monai_sagan.models.facts import FORMATS
from monai_sagan.models.trained import Trained
from monai_sagan.packages import pip_install

NEEDS = {"safetensors": ("safetensors",), "onnx": ("onnx", "onnxscript", "onnxruntime")}


def check_format(format: str) -> None:
    """Raise when a format is unknown, or needs a package that is not installed."""
    if format not in FORMATS:
        raise SaganError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    for module in NEEDS.get(format, ()):
        if importlib.util.find_spec(module) is None:
            raise SaganError(f"the format {format} needs {module}, which is not installed; {pip_install(format)}")


def write_format(format: str, trained: Trained, path: Path) -> None:
    """Write a model in one of `FORMATS`."""
    with _quiet():
        _WRITERS[format](trained, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' warnings and output."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _write_safetensors(trained: Trained, path: Path) -> None:
    from safetensors.torch import save

    weights = {name: value.cpu().contiguous() for name, value in trained.network.state_dict().items()}
    path.write_bytes(save(weights, {"format": "pt"}))


def _example(trained: Trained) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of an odd size, so that the exporters take no length for the network's, or for 1."""
    height, width = trained.settings.image_size
    shape = (2, trained.settings.in_channels, height + 5, width + 9)
    return torch.arange(shape[2] * shape[3]).int().reshape(shape[2:]).expand(shape).remainder(255), torch.tensor(8)


def _write_torchscript(trained: Trained, path: Path) -> None:
    written = io.BytesIO()
    torch.jit.save(torch.jit.trace(_graph(trained), _example(trained), check_trace=False), written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):  # they have paths of this machine
                target.writestr(entry, source.read(entry))


def _write_torch_export(trained: Trained, path: Path) -> None:
    written = io.BytesIO()
    torch.export.save(_program(trained), written)
    path.write_bytes(without_pickles(written))


def _write_onnx(trained: Trained, path: Path) -> None:
    outputs = OUTPUTS if find_method(trained.settings.method).restores else WITHOUT_RESTORED
    names = ["image_seen" if name == "image" else name for name in outputs]  # an input is called image
    program = torch.onnx.export(
        _program(trained), dynamo=True, input_names=["image", "bits"], output_names=names, verbose=False
    )
    assert program is not None
    size = sum(value.nbytes for value in trained.network.state_dict().values())
    program.save(path, external_data=size > 2**31 - 2**24)


def _program(trained: Trained) -> torch.export.ExportedProgram:
    dynamic = torch.export.Dim.DYNAMIC
    shapes: dict[str, Any] = {"image": {0: dynamic, 2: dynamic, 3: dynamic}, "bits": None}
    program = torch.export.export(_graph(trained), _example(trained), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has paths of this machine
    return program


def _graph(trained: Trained) -> ScoringGraph:
    layout: dict[str, Any] = {"memory_format": torch.contiguous_format}  # channels last is unknown to some runtimes
    graph: ScoringGraph = ScoringGraph.of(trained).to(**layout).requires_grad_(False)
    return graph


_WRITERS: dict[str, Callable[[Trained, Path], None]] = {
    "safetensors": _write_safetensors,
    "torchscript": _write_torchscript,
    "onnx": _write_onnx,
    "torch_export": _write_torch_export,
}
