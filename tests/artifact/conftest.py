from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from monai_sagan.artifact.export import export_artifact
from monai_sagan.data.training_range import measure_training_range
from monai_sagan.files import save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.models.trained import describe_trained, load_trained
from monai_sagan.networks import SaganGenerator

MODELS = {
    "grey": {"num_res_blocks": 0},
    "color": {
        "in_channels": 3,
        "image_size": [64, 96],
        "map_passes": 4,
        "map_smoothing": "guided",
        "anatomical_consistency": False,
        "abnormal_region_restoration": False,
        "num_res_blocks": 0,
        "output": "sum",
    },
    "plain": {"preset": "paper", "image_size": [96, 64], "grid": [3, 2], "position_norm": "none"},
    "official": {
        "preset": "official",
        "map_passes": 4,
        "map_smoothing": "gaussian",
        "map_sigma": 1.0,
        "in_channels": 3,
    },
}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A run's folder for each of `MODELS`: its ``model.pt``, and what it holds."""

    @cache
    def make(name):
        settings = resolve_settings(**{"preset": "recommended", "channels": 4, "num_res_blocks": 1} | MODELS[name])
        torch.manual_seed(0)
        network = SaganGenerator(**settings.generator())
        shape = (24, settings.in_channels, *settings.image_size)
        images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, np.uint8))
        folder = tmp_path_factory.mktemp(name)
        content = describe_trained(network, settings, images[:20], 7, measure_training_range(images))
        save_tensors(content, folder / "model.pt")
        return SimpleNamespace(folder=folder, file=folder / "model.pt", trained=load_trained(folder / "model.pt"))

    return make


@pytest.fixture(scope="session")
def exported(models, tmp_path_factory):
    """The folder of a model's artifact of a format, made once for all test processes: not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "artifacts"
    shared.mkdir(exist_ok=True)

    @cache
    def make(name, format):
        folder = shared / f"{name}-{format}"
        output = io.StringIO()
        with (shared / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # an export to ONNX takes long
            if not folder.exists():
                with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                    export_artifact(models(name).folder, folder, format, name=name)
        assert output.getvalue() == ""
        return folder

    return make


@pytest.fixture
def artifact(exported, tmp_path):
    """A copy of a safetensors artifact, to be changed."""
    return shutil.copytree(exported("grey", "safetensors"), tmp_path / "artifact")
