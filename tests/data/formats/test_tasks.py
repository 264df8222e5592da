"""What worker processes make of files, mostly here without the processes: each image has one of three results."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.cache import HowToDecode, load_image
from monai_sagan.data.formats.decode import decode, read_image
from monai_sagan.data.formats.tasks import DecodedImage, DecodeTask, LeftOut, Unreadable, run_task, run_tasks

GREY, COLOR = HowToDecode((64, 48)), HowToDecode((64, 48), channels=3)


@pytest.mark.parametrize("how", [GREY, COLOR])
def test_the_network_sees_what_it_was_trained_on(tmp_path, how):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    path = str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path)
    (found,) = run_task(DecodeTask([path], fit=how, shown_side=150))
    assert found.image == path
    np.testing.assert_array_equal(found.pixels, load_image(path, how))
    assert found.picture.dtype == np.uint8
    assert found.picture.shape == ((150, 100) if how is GREY else (150, 100, 3))
    (found,) = run_task(DecodeTask([path], fit=how))
    assert found.picture is None


def test_small_pictures_are_shown_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (found,) = run_task(DecodeTask([str(tmp_path / "a.png")], fit=GREY, shown_side=512))
    np.testing.assert_array_equal(found.picture, pixels)


def test_nothing_is_made_that_is_not_asked_for(tmp_path):
    path, target = str(tmp_path / "a.png"), tmp_path / "b.png"
    Image.fromarray(np.eye(30, dtype=np.uint8) * 200).save(path)
    for headers_only in (True, False):
        assert run_task(DecodeTask([path], headers_only=headers_only)) == [DecodedImage(path, decode(path).description)]
    (found,) = run_task(DecodeTask([path], digest=True, targets={path: str(target)}, target_side=16))
    assert found.description.keys() - decode(path).description.keys() == {"digest"}
    assert (found.not_written, read_image(target).size) == ("", (16, 16))
    missing = str(tmp_path / "none" / "b.png")
    (found,) = run_task(DecodeTask([path], targets={path: missing}, target_side=16))
    assert found.not_written == "No such file or directory"


def test_every_frame_of_a_file_named_without_one(tmp_path, write_dicom):
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 30), np.uint8)
    write_dicom(tmp_path / "cine", frames[0], data=frames.tobytes(), NumberOfFrames=3)
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    for path in (str(tmp_path / "cine"), str(tmp_path / "pages.tif")):
        found = run_task(DecodeTask([path], fit=GREY, shown_side=512, every_frame=True))
        assert [result.image for result in found] == [f"{path}#{i}" for i in range(3)]
        np.testing.assert_array_equal([result.picture for result in found], frames)
        (refused,) = run_task(DecodeTask([path], fit=GREY))
        assert isinstance(refused, Unreadable)
        assert "3 frames" in refused.reason


@pytest.mark.parametrize("every_frame", [True, False])
def test_what_has_no_pixels_to_score(tmp_path, write_dicom, every_frame):
    empty = str(tmp_path / "empty.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(empty)
    found = run_task(DecodeTask([empty], min_foreground=0.1, fit=GREY, every_frame=every_frame))
    assert found == [LeftOut(empty, "foreground 0.000 of the image, below 0.1")]
    (tmp_path / "broken.png").write_bytes(b"broken")
    frame = np.zeros((40, 30), np.uint8)
    write_dicom(tmp_path / "endless.dcm", frame, NumberOfFrames=2_000_000_000)
    volume = tmp_path / "v.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 7), np.uint8), np.eye(4)), volume)
    for path in (tmp_path / "broken.png", tmp_path / "endless.dcm", volume):
        (found,) = run_task(DecodeTask([str(path)], fit=GREY, every_frame=every_frame))
        assert isinstance(found, Unreadable)
        assert found.image == str(path)
        assert str(path) in found.reason


def test_a_task_that_fails_as_a_whole(tmp_path):
    """Each of its images is unreadable, with a reason that names it."""
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    (found,) = run_tasks([DecodeTask(paths, preparation="unknown")], jobs=1)
    assert [result.image for result in found] == paths
    assert all(isinstance(result, Unreadable) and result.image in result.reason for result in found)
