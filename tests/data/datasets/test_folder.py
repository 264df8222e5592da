"""Plain folders of images of any kind: found wherever they lie, volumes slice by slice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.datasets.folder import read_folder
from monai_sagan.data.datasets.layouts import read_dataset
from monai_sagan.data.formats.decode import read_image


def every(datalist):
    return [item for items in datalist.values() for item in items]


def names(items):
    return [Path(item["image"]).name for item in items]


@pytest.fixture
def folder(tmp_path):
    for name in ("normal", "unlabeled"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (8, 8), i).save(tmp_path / "set" / name / f"{name[0]}{i}.png")
    return tmp_path / "set"


def write_volume(path, shape=(4, 5, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.eye(4)), path)
    return path


def test_without_a_test(folder):
    datalist = read_folder(folder).datalist
    assert names(datalist["normal"]) == ["n0.png", "n1.png"]
    assert [item["label"] for item in datalist["unlabeled"]] == [None, None]
    assert datalist["test"] == []


def test_test_images_of_which_nobody_knows(folder, caplog):
    """They lie in test/ itself, or in test/unlabeled/; other folders there are still left out with a warning."""
    for place in ("test", "test/unlabeled/deep", "test/normal", "test/abnorml"):
        (folder / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "normal" / "n0.png", folder / place / f"{place.replace('/', '-')}.png")
    (folder / "test" / "notes.txt").write_text("no image")
    datalist, left_out, _ = read_folder(folder)
    labels = {Path(item["image"]).stem: item["label"] for item in datalist["test"]}
    assert labels == {"test-normal": 0, "test-unlabeled-deep": None, "test": None}
    assert sum("abnorml" in reason for reason in left_out) == 1
    assert sum(count for reason, count in left_out.items() if "test" in reason) == 1


def test_unlabeled_images_of_known_kinds(folder, caplog):
    """The two sub-folders tell labels, whatever lies beside them; of images there nobody knows, and that is said."""
    for i, kind in enumerate(("normal", "abnormal")):
        (folder / "unlabeled" / kind / "deep").mkdir(parents=True)
        (folder / "unlabeled" / f"u{i}.png").rename(folder / "unlabeled" / kind / "deep" / f"u{i}.png")
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / "unlabeled" / name).touch()
    labels = {Path(item["image"]).name: item["label"] for item in read_folder(folder).datalist["unlabeled"]}
    assert labels == {"u0.png": 0, "u1.png": 1}
    assert not caplog.records
    shutil.copy(folder / "normal" / "n0.png", folder / "unlabeled" / "more.png")
    labels = {Path(item["image"]).name: item["label"] for item in read_folder(folder).datalist["unlabeled"]}
    assert labels == {"u0.png": 0, "u1.png": 1, "more.png": None}
    assert "more.png and 0 more unlabeled images are in neither of unlabeled/normal" in caplog.text


def test_images_in_places_of_no_meaning(folder, caplog, write_dicom):
    """Left out and counted, with a warning; what the system puts there is no image."""
    for place in ("Test/normal/deep", "abnormal", "test/other"):
        (folder / place).mkdir(parents=True)
        shutil.copy(folder / "normal" / "n0.png", folder / place / "x.png")
    write_dicom(folder / "abnormal" / "IM0001", np.zeros((8, 8), np.uint8))
    for name in ("Thumbs.db", ".hidden.png", "readme.txt"):
        (folder / "abnormal" / name).touch()
    (folder / "@eaDir").mkdir()
    shutil.copy(folder / "normal" / "n0.png", folder / "@eaDir" / "x.png")
    wanted = {"Test": 1, "abnormal": 2, "test/other": 1}
    left_out = read_folder(folder).left_out
    assert {reason.split(",")[0]: count for reason, count in left_out.items()} == {
        f"in {folder / place}": count for place, count in wanted.items()
    }
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 3


def test_what_is_no_file_is_passed_over_and_a_link_to_nothing_is_a_missing_image(folder, tmp_path):
    os.mkfifo(folder / "normal" / "pipe")
    os.mkfifo(folder / "normal" / "pipe.png")
    (folder / "normal" / "link.png").symlink_to(tmp_path / "nowhere.png")
    assert names(read_folder(folder).datalist["normal"]) == ["link.png", "n0.png", "n1.png"]


def test_dicom_without_a_suffix(folder, write_dicom):
    pixels = np.zeros((8, 8), np.uint8)
    for name in ("IM000001", "1.2.840.113619.2.5", "scan.dcm", "DICOMDIR"):
        write_dicom(folder / "normal" / name, pixels)
    (folder / "normal" / "LICENSE").write_text("text " * 100)
    datalist, left_out, _ = read_folder(folder)
    assert names(datalist["normal"]) == ["1.2.840.113619.2.5", "IM000001", "n0.png", "n1.png", "scan.dcm"]
    assert left_out == {"files that are not images": 2}
    assert all(read_image(item["image"]).size == (8, 8) for item in datalist["normal"])


def test_slices_of_volumes(folder):
    write_volume(folder / "normal" / "p1" / "t1.nii.gz")
    write_volume(folder / "unlabeled" / "v.nii")
    datalist = read_folder(folder).datalist
    slices = [item for item in datalist["normal"] if "#" in item["image"]]
    assert names(slices) == [f"t1.nii.gz#z{i}" for i in range(6)]
    assert {item["patient"] for item in slices} == {"normal/p1/t1.nii.gz"}
    assert [item["label"] for item in slices] == [0] * 6
    assert len(datalist["unlabeled"]) == 2 + 6
    assert all(read_image(item["image"]).size for item in slices)
    along_x = read_folder(folder, slice_axis=0).datalist
    assert [name for name in names(along_x["normal"]) if "#" in name] == [f"t1.nii.gz#x{i}" for i in range(4)]
    middle = [name for name in names(read_folder(folder, slice_range=[0.3, 0.7]).datalist["normal"]) if "#" in name]
    assert middle
    assert set(middle) < set(names(slices))


def test_one_slice_and_no_volume(folder):
    write_volume(folder / "normal" / "flat.nii", (6, 5))
    (folder / "normal" / "empty.nii").touch()
    (folder / "normal" / "text.nii.gz").write_text("text")
    found = [item for item in read_folder(folder).datalist["normal"] if ".nii" in item["image"]]
    assert len(found) == 3  # what cannot be read is listed: whoever decodes it says why
    assert read_image(next(item["image"] for item in found if "flat" in item["image"])).size == (6, 5)


def test_links_are_followed_once(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "normal" / "n1.png").rename(elsewhere / "far.png")
    os.symlink(elsewhere, folder / "normal" / "link")
    os.symlink(folder / "normal", elsewhere / "round")  # a circle
    assert names(read_folder(folder).datalist["normal"]) == ["n0.png", "far.png"]


@pytest.mark.parametrize("axis", [3, -1, "z", None])
def test_axis_is_checked(folder, axis, refused):
    with refused("slice_axis", axis):
        read_folder(folder, slice_axis=axis)


@pytest.mark.parametrize("share", [(0.5, 0.5), (-0.1, 1), (0, 1.1), (0.8, 0.2), (0.5,), 0.5, "ab", None])
def test_range_is_checked(folder, share, refused):
    with refused("slice_range"):
        read_folder(folder, slice_range=share)


def test_the_folder_that_is_missing_is_named_not_one_below_it(tmp_path, refused):
    with refused(f"no folder {tmp_path / 'nowhere'};", "a dataset has normal/, unlabeled/", "--dataset_dir"):
        read_folder(tmp_path / "nowhere")
    with refused(f"no folder {tmp_path / 'normal'};"):
        read_folder(tmp_path)


def test_volumes_of_a_subject_are_one_patient(folder):
    """Sessions and contrasts by the names of BIDS; without them each volume counts as a patient."""
    for session in (1, 2):
        for contrast in ("T1w", "T2w"):
            write_volume(folder / "normal" / "sub-07" / f"ses-{session}" / f"sub-07_ses-{session}_{contrast}.nii.gz")
    write_volume(folder / "normal" / "p1" / "t1.nii.gz")
    (folder / "unlabeled" / "sub-08").mkdir()
    (folder / "unlabeled" / "u0.png").rename(folder / "unlabeled" / "sub-08" / "u0.png")
    datalist = read_folder(folder).datalist
    assert {item.get("patient") for item in datalist["normal"]} == {None, "sub-07", "normal/p1/t1.nii.gz"}
    assert [item.get("patient") for item in datalist["unlabeled"]] == [None, "sub-08"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("Test", "if test/ is meant"),
        ("tests/normal", "if test/ is meant"),
        ("Normal", "if normal/ is meant"),
        ("unlabelled", "if unlabeled/ is meant"),
        ("test/Abnormal", "if test/abnormal/ is meant"),
        ("test/unlabelled", "if test/unlabeled/ is meant"),
        ("abnormal", "belong in test/abnormal/"),
        ("Abnormal/deep", "belong in test/abnormal/"),
        ("valid", "validation is carved out"),
        ("Validation", "validation is carved out"),
        ("val", "validation is carved out"),
        ("train/normal", "belong in the dataset's folder itself"),
        ("other", "test/abnormal/"),
    ],
)
def test_near_names_of_folders(folder, caplog, place, said):
    """Images are left out with a warning that says where they may belong."""
    (folder / place).mkdir(parents=True)
    shutil.copy(folder / "normal" / "n0.png", folder / place / "x.png")
    datalist, left_out, _ = read_folder(folder)
    assert len(every(datalist)) == 4
    ((reason, count),) = left_out.items()
    assert reason.endswith(said) if place == "other" else said in reason.rpartition("; ")[2]
    assert count == 1
    assert said in caplog.text


@pytest.mark.parametrize(
    ("name", "other"), [("normal", "Normal"), ("unlabeled", "unlabelled"), ("unlabeled", "Unlabled")]
)
def test_near_names_of_folders_that_are_needed(folder, refused, name, other):
    (folder / name).rename(folder / other)
    with refused(f"no folder {folder / name}", f"rename {folder / other} to {name};"):
        read_folder(folder)
    with refused(f"rename {folder / other} to {name};"):
        read_dataset(folder)


def test_near_names_of_the_kinds_of_unlabeled_images(folder, caplog):
    for i, kind in enumerate(("Normal", "abnormal")):
        (folder / "unlabeled" / kind).mkdir()
        (folder / "unlabeled" / f"u{i}.png").rename(folder / "unlabeled" / kind / f"u{i}.png")
    assert [item["label"] for item in read_folder(folder).datalist["unlabeled"]] == [None, None]
    assert f"{folder / 'unlabeled' / 'Normal'} gives no labels" in caplog.text
