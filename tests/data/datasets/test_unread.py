"""What is in a folder and is not read is named, not passed over."""

from __future__ import annotations

import pytest
from PIL import Image

from monai_sagan.artifact.export import export_artifact
from monai_sagan.data.datasets.folder import read_folder
from monai_sagan.data.datasets.unread import unread_kinds
from monai_sagan.engines.inference import infer
from monai_sagan.predict import predict


@pytest.fixture
def folder(tmp_path):
    for part in ("normal", "unlabeled"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        for name in ("a.heic", "b.HEIC", "notes.txt", "c.mha", "plain"):
            (tmp_path / "mine" / part / name).write_bytes(b"something")
    return tmp_path / "mine"


def test_kinds_that_are_not_read_are_counted(folder):
    Image.new("L", (4, 4)).save(folder / "normal" / "n.png")
    Image.new("L", (4, 4)).save(folder / "unlabeled" / "u.gif")
    datalist, left_out, _ = read_folder(folder)
    assert [len(datalist[name]) for name in ("normal", "unlabeled")] == [1, 1]
    assert left_out == {
        "files of type .heic, which is not read": 4,
        "files of type .mha, which is not read": 2,
        "files that are not images": 4,
    }


def test_no_images_says_what_there_is_instead(folder, refused, tmp_path, save_model, caplog):
    there = (folder / "normal", "no images", ".heic (2)", ".txt (1)", "without a suffix (1)", ".png", ".nii.gz")
    with refused(*there):
        read_folder(folder)
    save_model(tmp_path / "model.pt")
    infer(tmp_path / "model.pt", folder / "normal", tmp_path / "out")  # an inbox may be empty
    assert all(str(part) in caplog.text for part in there)
    for path in (folder / "normal").iterdir():
        path.unlink()
    with refused(folder / "normal", "no images", "no files"):
        read_folder(folder)


@pytest.mark.parametrize("verb", ["infer", "predict"])
def test_what_is_left_out_of_a_folder_to_score_is_said(folder, tmp_path, caplog, save_model, verb):
    Image.new("L", (4, 4)).save(folder / "normal" / "n.jfif", "JPEG")
    save_model(tmp_path / "model.pt")
    if verb == "infer":
        infer(tmp_path / "model.pt", folder / "normal", tmp_path / "out", overlays="none")
    else:
        artifact = export_artifact(tmp_path / "model.pt", tmp_path / "artifact", "safetensors")
        predict(artifact, folder / "normal", tmp_path / "out", overlays="none", jobs=1)
    assert "n.jfif" in (tmp_path / "out" / "scores.csv").read_text()
    assert "2 files of type .heic, which is not read" in caplog.text
    assert "no images" not in caplog.text


def test_counting_takes_any_paths(folder):
    assert unread_kinds([]) == {}
