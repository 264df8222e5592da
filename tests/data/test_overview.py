"""What ``monai-sagan data`` says, on generated datasets with something wrong in them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from monai_sagan.cli import main


@pytest.fixture
def folder(tmp_path, write_dicom):
    """A folder layout with a broken PNG, whose header is whole, and a text named .dcm."""
    rng = np.random.default_rng(0)
    for part in ("normal", "unlabeled", "test/normal", "test/abnormal"):
        place = tmp_path / "mine" / part
        place.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(place / f"{i}.png")
    place = tmp_path / "mine" / "unlabeled"
    write_dicom(
        place / "x.dcm", rng.integers(0, 256, (20, 40), np.uint8), PatientID="p", Modality="DX", ViewPosition="PA"
    )
    (place / "text.dcm").write_text("not an image\n")
    (place / "notes.txt").write_text("no image")
    half = place / "1.png"
    half.write_bytes(half.read_bytes()[:-200])
    return tmp_path / "mine"


def test_what_is_said(folder, capsys, tmp_path):
    assert main(["data", str(folder), "--jobs", "1", "--table", str(tmp_path / "table.csv")]) == 1
    said = capsys.readouterr().out
    for part in ("folder", "30 x 20: 12", "40 x 20: 1", "PNG: 12", "DICOM: 1", "DX: 1", "PA: 1", "1 of 14 images"):
        assert part in said
    assert str(folder / "unlabeled" / "text.dcm") in said
    assert "files that are not images" in said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert lines["normal"][1:5] == ["3", "3", "0", "0"]
    assert lines["unlabeled"][1:6] == ["5", "0", "0", "5", "1"]
    assert lines["test"][1:5] == ["6", "3", "3", "0"]
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert {row["split"] for row in rows} == {"normal", "unlabeled", "test"}
    assert [row["label"] for row in rows if row["split"] == "unlabeled"] == [""] * 5


def test_test_images_without_a_label_are_counted(folder, capsys):
    (folder / "test" / "normal" / "2.png").rename(folder / "test" / "2.png")
    main(["data", str(folder)])
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["test"][1:5] == ["6", "2", "3", "1"]


def test_the_table_has_what_headers_say(folder, tmp_path):
    main(["data", str(folder), "--table", str(tmp_path / "table.csv")])
    with (tmp_path / "table.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["image"].endswith("x.dcm"))
    assert row["view"] == "PA"
    assert len(row["patient"]) == 16  # a hash


def test_images_without_foreground(folder, tmp_path, capsys):
    """They are shown as what a run with this option leaves out."""
    for i in range(2):
        Image.new("L", (30, 20), 2).save(folder / "normal" / f"{i}.png")
    assert main(["data", str(folder), "--min_foreground", "0.05"]) == 1
    said = capsys.readouterr().out
    assert "left out   1 images, files that are not images\n" in said
    assert "2 images, foreground below 0.05\n" in said
    assert "2 of 12 images (decoded)" in said  # that others are broken is found, too
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert lines["normal"][1:3] == ["1", "1"]
    assert main(["data", str(folder), "--min_foreground", "5"]) == 2
    assert "min_foreground is 5.0" in capsys.readouterr().err


def test_images_in_places_of_no_meaning_are_shown(folder, capsys):
    (folder / "Test" / "normal").mkdir(parents=True)
    (folder / "normal" / "0.png").rename(folder / "Test" / "normal" / "0.png")
    main(["data", str(folder)])
    assert f"1 images, in {folder / 'Test'}, which is none of normal/" in capsys.readouterr().out


def test_a_missing_image_is_shown(folder, capsys, tmp_path):
    (folder / "normal" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    main(["data", str(folder)])
    assert f"{folder / 'normal' / 'gone.png'} is not there; restore it or leave it out" in capsys.readouterr().out


def test_check_finds_what_headers_do_not_tell(folder, capsys):
    assert main(["data", str(folder), "--check"]) == 1
    said = capsys.readouterr().out
    assert "2 of 14 images" in said
    assert str(folder / "unlabeled" / "1.png") in said


def test_nothing_wrong(folder, capsys):
    for name in ("1.png", "text.dcm"):
        (folder / "unlabeled" / name).unlink()
    assert main(["data", str(folder), "--check"]) == 0
    assert "unreadable 0 of 12 images" in capsys.readouterr().out


def test_options_of_the_reader(folder, capsys):
    assert main(["data", str(folder), "--slice_axis", "5"]) == 2
    assert capsys.readouterr().err.startswith("monai-sagan: error: slice_axis is 5")
    assert main(["data", str(folder), "--slice_axes", "1"]) == 2
    err = capsys.readouterr().err
    assert "slice_axes" in err
    assert "slice_axis" in err
    assert err.count("\n") == 1
    assert main(["data", str(folder), "loose"]) == 2


def test_prepare_by_command(folder, capsys, tmp_path, caplog):
    arguments = ["prepare", str(folder), str(tmp_path / "out"), "--image_size", "64"]
    assert main(arguments) == 2
    assert "2 of 14 images are unreadable" in capsys.readouterr().err
    assert main([*arguments, "--max_unreadable", "0.2"]) == 0
    assert f"skipped 2 unreadable images: {tmp_path / 'out' / 'skipped.csv'} lists them" in caplog.text
    assert main(["data", str(tmp_path / "out"), "--check"]) == 0
    said = capsys.readouterr().out
    assert "med_ad" in said
    assert "64 x 64: 12" in said


@pytest.fixture
def plain(tmp_path):
    """Images in folders that say nothing."""
    for part in ("", "2023", "2024/March", "abnormal"):
        (tmp_path / "plain" / part).mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 20), 7).save(tmp_path / "plain" / part / "a.png")
    return tmp_path / "plain"


def test_a_plain_folder_of_images(plain, capsys, tmp_path):
    """It is shown, with how to arrange it for training; only training refuses it."""
    assert main(["data", str(plain), "--check", "--table", str(tmp_path / "table.csv")]) == 0
    said = capsys.readouterr().out
    lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
    assert lines["images"].split()[1:5] == ["4", "0", "0", "4"]
    assert "30 x 20: 4" in said
    assert "layout     none" in said
    for part in ("normal/, unlabeled/", "images.csv", "abnormal/: abnormal images belong in test/abnormal/"):
        assert part in lines["to"]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 5
    assert main(["prepare", str(plain), str(tmp_path / "out")]) == 2
    assert "no known layout" in capsys.readouterr().err
    assert main(["data", str(plain), "--slice_axis", "5"]) == 2
    assert main(["data", str(plain), "--shares", "1"]) == 2
    assert main(["data", str(plain), "--any_images", "1"]) == 2
    assert main(["data", str(plain), "--layout", "folder"]) == 2


def test_a_folder_without_images_or_with_a_dataset_inside(plain, folder, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["data", str(tmp_path / "empty")]) == 2
    assert "no known layout" in capsys.readouterr().err
    folder.rename(plain / "mine")
    assert main(["data", str(plain)]) == 2
    assert f"{plain / 'mine'} is in the layout folder, give that" in capsys.readouterr().err


def test_patients_and_columns_are_shown(plain, capsys):
    (plain / "images.csv").write_text("Path,label,Subject ID,Finding\na.png,0,1.0,x\n2023/a.png,1,1,y\n")
    assert main(["data", str(plain)]) == 0
    said = capsys.readouterr().out
    assert "columns    image (Path), label, patient (Subject ID); not read: Finding\n" in said
    assert "patients   the column Subject ID: 2\n" in said
