"""The reader in MONAI's own pipelines: the pixels of `read_image`, channel first, with what the header says."""

from __future__ import annotations

import pickle

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, PersistentDataset
from monai.transforms import LoadImage, LoadImaged
from PIL import Image

from monai_sagan.data.formats.decode import read_image
from monai_sagan.data.formats.monai_reader import RadiographReader
from monai_sagan.errors import SaganError

READER = "monai_sagan.data.formats.monai_reader.RadiographReader"
GREY = (np.arange(35, dtype=np.uint8) * 7 % 251).reshape(5, 7)
COLOR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


@pytest.fixture
def files(tmp_path, write_dicom):
    """Grey images of one size in several formats."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    deep = write_dicom(
        tmp_path / "export", GREY.astype(np.uint16) * 9, BitsStored=12, PatientSex="F", PatientAge="043Y"
    )
    nibabel.save(nibabel.Nifti1Image(np.stack([GREY.T] * 3, -1).astype(np.int16), np.eye(4)), tmp_path / "v.nii.gz")
    return [str(tmp_path / "a.png"), str(deep), f"{tmp_path}/v.nii.gz#z1"]


def load(ensure_channel_first=True, **options):
    return LoadImaged(keys="image", reader=READER, ensure_channel_first=ensure_channel_first, **options)


def test_the_pixels_of_read_image_channel_first(files):
    for path in files:
        image = load()({"image": path})["image"]
        assert image.dtype == torch.float32
        assert image.shape == (1, 5, 7)
        np.testing.assert_array_equal(image[0], np.asarray(read_image(path), np.float32))
        assert image.meta["filename_or_obj"] == path


def test_color(tmp_path):
    Image.fromarray(COLOR).save(tmp_path / "c.png")
    data = {"image": tmp_path / "c.png"}
    np.testing.assert_array_equal(load()(data)["image"], np.moveaxis(COLOR, -1, 0))
    assert load(ensure_channel_first=False)(data)["image"].shape == (5, 7, 3)
    grey = load(channels=1)(data)["image"]
    np.testing.assert_array_equal(grey[0], np.asarray(Image.fromarray(COLOR).convert("L")))


def test_grey_as_color(files):
    image = load(channels=3)({"image": files[0]})["image"]
    np.testing.assert_array_equal(image, np.stack([GREY] * 3))
    with pytest.raises(SaganError, match="channels is 2"):
        RadiographReader(channels=2)


def test_preparation(files):
    deep = files[1]
    image = load(preparation="med_ad")({"image": deep})["image"]
    np.testing.assert_array_equal(image[0], np.asarray(read_image(deep, "med_ad"), np.float32))
    assert not torch.equal(image, load()({"image": deep})["image"])


def test_meta_data_have_the_description(files):
    meta = load()({"image": files[1]})["image"].meta
    wanted = {"format": "DICOM", "sex": "F", "age": 43, "width": 7, "height": 5, "mode": "L"}
    assert {key: meta[key] for key in wanted} == wanted


def test_several_files_are_channels(files, tmp_path, refused):
    assert LoadImage(reader=RadiographReader(), ensure_channel_first=True)(files).shape == (3, 5, 7)
    Image.fromarray(COLOR).save(tmp_path / "c.png")
    with refused(tmp_path / "c.png", "(5, 7, 3)", "(5, 7)"):
        LoadImage(reader=RadiographReader())([files[0], tmp_path / "c.png"])


def test_a_refusal_reaches_the_user_and_no_other_reader_steps_in(write_dicom, tmp_path, refused):
    path = write_dicom(tmp_path / "f.dcm", GREY, NumberOfFrames=3, data=GREY.tobytes() * 3 + b"\0")
    with refused(path, "3 frames"):
        LoadImage(reader=RadiographReader())(path)


def test_it_is_chosen_by_name(files):
    reader = RadiographReader()
    assert reader.verify_suffix(files)
    assert not reader.verify_suffix([files[0], "a.txt"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_workers_and_cached_datasets(files, tmp_path):
    data = [{"image": path} for path in files]
    transform = pickle.loads(pickle.dumps(load()))
    wanted = torch.stack([load()(item)["image"].as_tensor() for item in data])
    cached = CacheDataset(data, transform, progress=False, num_workers=1)
    for dataset in (Dataset(data, transform), cached, PersistentDataset(data, transform, tmp_path / "cache")):
        for workers in (0, 1) if dataset is not cached else (0,):
            (batch,) = DataLoader(dataset, batch_size=3, num_workers=workers)
            assert torch.equal(torch.as_tensor(batch["image"]), wanted)  # MONAI persists plain tensors
