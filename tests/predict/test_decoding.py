"""What worker processes make of files, here without the processes."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.cache import HowToDecode, load_image
from monai_sagan.data.formats.workers import Failure
from monai_sagan.predict import decoding
from monai_sagan.predict.decoding import Look, decode_all, decode_one

GREY, COLOR = HowToDecode((64, 48)), HowToDecode((64, 48), channels=3)


@pytest.mark.parametrize("how", [GREY, COLOR])
def test_the_network_sees_what_it_was_trained_on(tmp_path, how):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    path = str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path)
    ((name, look),) = decode_one(([path], how, 150))
    assert name == path
    np.testing.assert_array_equal(look.pixels, load_image(path, how))
    assert look.picture.dtype == np.uint8
    assert look.picture.shape == ((150, 100) if how is GREY else (150, 100, 3))
    ((_, look),) = decode_one(([path], how, 0))
    assert look.picture is None


def test_small_pictures_are_shown_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    ((_, look),) = decode_one(([str(tmp_path / "a.png")], GREY, 512))
    np.testing.assert_array_equal(look.picture, pixels)


def test_every_frame_of_a_file_named_without_one(tmp_path, write_dicom):
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 30), np.uint8)
    write_dicom(tmp_path / "cine", frames[0], data=frames.tobytes(), NumberOfFrames=3)
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    for path in (str(tmp_path / "cine"), str(tmp_path / "pages.tif")):
        found = decode_one(([path], GREY, 512))
        assert [name for name, _ in found] == [f"{path}#{i}" for i in range(3)]
        np.testing.assert_array_equal([look.picture for _, look in found], frames)


def test_what_has_no_pixels_to_score(tmp_path, write_dicom):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "empty.png")
    ((_, left_out),) = decode_one(([str(tmp_path / "empty.png")], HowToDecode((64, 64), min_foreground=0.1), 512))
    assert left_out == "foreground 0.000 of the image, below 0.1"
    (tmp_path / "broken.png").write_bytes(b"broken")
    frame = np.zeros((40, 30), np.uint8)
    write_dicom(tmp_path / "endless.dcm", frame, NumberOfFrames=2_000_000_000)
    volume = tmp_path / "v.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 7), np.uint8), np.eye(4)), volume)
    for path in (tmp_path / "broken.png", tmp_path / "endless.dcm", volume):
        ((name, failure),) = decode_one(([str(path)], GREY, 512))
        assert name == str(path)
        assert isinstance(failure, Failure)
        assert str(path) in failure.reason


def test_files_in_their_order_whatever_the_wave(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "WAVE", 2)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(path)
    found = list(decode_all([[path] for path in paths], GREY, 0, jobs=1))
    assert [names for names, _ in found] == [[path] for path in paths]
    for i, (_, ((name, look),)) in enumerate(found):
        assert name == paths[i]
        assert isinstance(look, Look)
        assert (look.pixels == i).all()
    assert list(decode_all([], GREY, 0)) == []
