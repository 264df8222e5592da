"""Bad images are skipped, counted and listed; too many of them end the run."""

from __future__ import annotations

import csv
import logging

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.artifact.export import export_artifact
from monai_sagan.cli import main
from monai_sagan.data.cache import HowToDecode, ImageCache
from monai_sagan.data.datasets.folder import read_folder
from monai_sagan.data.prepare import prepare
from monai_sagan.data.unreadable import by_file, keep_readable, write_skipped
from monai_sagan.engines.inference import infer
from monai_sagan.predict import predict


@pytest.fixture
def datalist(tmp_path, write_dicom):
    """Eleven images, one of them DICOM, one broken."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(10):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(path)
        items.append({"image": str(path), "label": 0})
    (tmp_path / "7.png").write_bytes(b"no image")
    pixels = rng.integers(0, 256, (20, 30), np.uint8)
    path = write_dicom(tmp_path / "x.dcm", pixels, PatientID="Jane Doe", PatientSex="F", PatientAge="043Y")
    items.append({"image": str(path), "label": 0, "sex": "from the table"})
    return {"normal": items[:5], "unlabeled": items[5:8], "test": items[8:]}


@pytest.fixture
def images(datalist, tmp_path):
    return ImageCache(datalist, HowToDecode((16, 16)), tmp_path / "cache")


def listed(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_what_is_left(datalist, images, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = keep_readable(datalist, images, tmp_path, max_unreadable=0.1)
    bad = str(tmp_path / "7.png")
    assert {name: len(items) for name, items in found.items()} == {"normal": 5, "unlabeled": 2, "test": 3}
    assert bad not in {item["image"] for items in found.values() for item in items}
    assert [row[0] for row in listed(tmp_path / "skipped.csv")] == ["image", bad]
    assert [bad in record.getMessage() for record in caplog.records] == [True]
    assert datalist["unlabeled"][2] == {"image": bad, "label": 0}  # the argument is as it was


def test_what_a_file_tells_comes_along_and_the_dataset_has_the_last_word(datalist, images, tmp_path):
    item = keep_readable(datalist, images, tmp_path, 0.1)["test"][-1]
    assert (item["size"], item["age"], item["sex"], item["label"]) == ([30, 20], 43, "from the table", 0)
    assert item["patient"]
    assert "Jane" not in str(item)
    assert item["digest"] == images.images[item["image"]]["digest"]


def test_too_many_are_an_error_that_changes_nothing(datalist, images, tmp_path, refused, caplog):
    with refused("1 of 11 images", "max_unreadable 0.01", "monai-sagan data DIR --check", tmp_path / "7.png"):
        keep_readable(datalist, images, tmp_path)
    assert not (tmp_path / "skipped.csv").exists()
    assert str(tmp_path / "7.png") in caplog.text


def test_left_out_slices_are_listed_but_are_not_bad(datalist, tmp_path):
    Image.new("L", (30, 20)).save(tmp_path / "7.png")
    images = ImageCache(datalist, HowToDecode((16, 16), min_foreground=0.1), tmp_path / "cache")
    found = keep_readable(datalist, images, tmp_path, max_unreadable=0)
    assert len(found["unlabeled"]) == 2
    assert "foreground" in listed(tmp_path / "skipped.csv")[1][1]


def spoiled_volume(path):
    """One value that is none spoils the scale of all slices."""
    values = np.random.default_rng(0).random((8, 9, 10), np.float32)
    values[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def test_a_volume_that_is_unreadable_as_a_whole_is_one_row(datalist, tmp_path, caplog):
    volume = tmp_path / "v.nii.gz"
    spoiled_volume(volume)
    datalist["test"] += [{"image": f"{volume}#z{i}", "label": 0} for i in range(10)]
    images = ImageCache(datalist, HowToDecode((16, 16)), tmp_path / "cache", mixed_images=True)
    with caplog.at_level(logging.WARNING):
        keep_readable(datalist, images, tmp_path, max_unreadable=0.6)
    rows = listed(tmp_path / "skipped.csv")[1:]
    assert [row[0] for row in rows] == [str(tmp_path / "7.png"), str(volume)]
    assert "1 NaN or infinite pixels: set them to" in rows[1][1]
    assert caplog.text.count(str(volume)) == 1


def test_only_a_shared_reason_is_the_files():
    reasons = {"v.nii#z1": "v.nii#z1 is broken", "v.nii#z2": "v.nii#z2 is broken", "v.nii#z9": "v.nii#z9 is not there"}
    assert by_file(reasons) == {"v.nii": "v.nii is broken", "v.nii#z9": "v.nii#z9 is not there"}
    assert by_file({"a.png": "a.png is broken", "b.png": "b.png is broken"}) == {
        "a.png": "a.png is broken",
        "b.png": "b.png is broken",
    }


def test_images_that_are_left_out_keep_a_row_each(tmp_path):
    write_skipped(tmp_path / "skipped.csv", {}, {f"v.nii#z{i}": "foreground 0.000 of the image" for i in range(3)})
    assert len(listed(tmp_path / "skipped.csv")) == 4


def test_every_verb_says_once_that_a_volume_is_unreadable(tmp_path, save_model, capsys):
    """Inference, predict, prepare and the look at a dataset, as training does."""
    for part in ("normal", "unlabeled"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "mine" / part / "a.png")
    volume = tmp_path / "mine" / "normal" / "v.nii.gz"
    spoiled_volume(volume)
    save_model(tmp_path / "model.pt")
    infer(tmp_path / "model.pt", tmp_path / "mine", tmp_path / "inferred", overlays="none")
    artifact = export_artifact(tmp_path / "model.pt", tmp_path / "artifact", "safetensors")
    predict(artifact, tmp_path / "mine", tmp_path / "predicted", overlays="none", jobs=1)
    prepare(read_folder(tmp_path / "mine").datalist, tmp_path / "prepared", 16, max_unreadable=1, jobs=1)
    for name in ("inferred", "predicted", "prepared"):
        assert [row[0] for row in listed(tmp_path / name / "skipped.csv")] == ["image", str(volume)]
    main(["data", str(tmp_path / "mine"), "--check", "--jobs", "1"])
    assert capsys.readouterr().out.count("NaN or infinite") == 1


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_0_and_1(datalist, images, tmp_path, share, refused):
    with refused(f"max_unreadable is {share}"):
        keep_readable(datalist, images, tmp_path, share)


@pytest.mark.parametrize("box", [[30.0, 0.0, 5.0, 5.0], [0.0, 20.0, 5.0, 5.0], [-6.0, 2.0, 5.0, 5.0]])
def test_a_box_outside_its_image(datalist, images, tmp_path, box, refused):
    datalist["test"][0]["boxes"] = [[29.0, 19.0, 5.0, 5.0], box]
    with refused(datalist["test"][0]["image"], "30 x 20 pixels"):
        keep_readable(datalist, images, tmp_path, 0.1)
    assert not (tmp_path / "skipped.csv").exists()
