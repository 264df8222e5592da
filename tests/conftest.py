from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monai_sagan.errors import SaganError
from monai_sagan.files import save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.models.trained import describe_trained
from monai_sagan.networks import SaganGenerator

torch.set_num_threads(1)  # tiny tensors: on a busy machine more threads only wait for each other


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that developers may have; the project ships none."""
    if "MONAI_SAGAN_DATA" not in os.environ:
        pytest.skip("MONAI_SAGAN_DATA does not name the folder of real data")
    return Path(os.environ["MONAI_SAGAN_DATA"])


@pytest.fixture
def refused():
    """``with refused("part", ...):`` expects a SaganError of one line that has these parts."""

    @contextmanager
    def expect(*parts: object):
        with pytest.raises(SaganError) as caught:
            yield caught
        message = str(caught.value)
        assert "\n" not in message
        for part in parts:
            assert str(part) in message

    return expect


@pytest.fixture
def small_files():
    """``with small_files(size):`` lets no file grow beyond so many bytes, as a full disk or ``ulimit -f`` does."""
    resource = pytest.importorskip("resource", reason="this system has no such limits")

    @contextmanager
    def limit(size: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture
def write_dicom():
    """Write pixels (H, W) or (H, W, 3) as DICOM; further attributes by their keywords."""

    def write(path, pixels, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, data=None, **attributes):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = syntax
        meta.MediaStorageSOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
        meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset = pydicom.Dataset()
        dataset.file_meta = meta
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = photometric
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelData = pixels.tobytes() if data is None else data
        dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def random_pixels():
    """Images of noise, uint8 (N, C, H, W), the same for the same arguments."""

    def draw(count, channels=1, size=64, seed=0):
        return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), np.uint8))

    return draw


@pytest.fixture
def save_model(random_pixels):
    """Save a tiny generator as a training run does; settings by name."""

    def save(path, preset="paper", seed=0, **values):
        settings = resolve_settings(preset, **{"channels": 4, "num_res_blocks": 1} | values)
        torch.manual_seed(seed)
        network = SaganGenerator(**settings.generator())
        valid = random_pixels(4, settings.in_channels, settings.image_size[0], seed=99)
        save_tensors(describe_trained(network, settings, valid, iteration=7, aucp=0.5), path)
        return network

    return save
