"""A folder in, scores and overlays out: as inference scores, and going on wherever it was stopped."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.export import export_artifact
from monai_sagan.cli import main
from monai_sagan.data.cache import HowToDecode, load_image
from monai_sagan.data.training_range import measure_training_range
from monai_sagan.files import save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.models.trained import describe_trained
from monai_sagan.networks import SaganGenerator
from monai_sagan.predict import predict as predict_with_all_cores
from monai_sagan.predict.results import Results

COLUMNS = ["image", "score", "p_value", "flag", "warning", "overlay", "status"]


def predict(*arguments, **options):
    return predict_with_all_cores(*arguments, **{"jobs": 1} | options)  # a process takes longer to start than all else


def export(folder, format, valid=19, **values):
    """A tiny model of random weights, exported; its validation normals are noise, as the images of the tests are.

    Noise of any size is like its training images, a bright image is not.
    """
    settings = resolve_settings("paper", **{"channels": 4, "num_res_blocks": 1} | values)
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    size = (valid, settings.in_channels, *settings.image_size)
    normal = rng.integers(0, 256, size, np.uint8)
    network = SaganGenerator(**settings.generator())
    training_range = measure_training_range(normal) | {
        "mean_brightness": [90, 150],
        "standard_deviation": [0, 99],
        "likeness": [-1, 1],
    }
    save_tensors(
        describe_trained(network, settings, torch.from_numpy(normal), 7, training_range=training_range),
        folder / "model.pt",
    )
    return export_artifact(folder / "model.pt", folder / format, format)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A safetensors artifact: exported and opened in no time; its checkpoint is beside it."""
    return export(tmp_path_factory.mktemp("weights"), "safetensors")


def write_images(folder):
    """Good images of several formats and sizes, a broken one, one outside the training range, and no images."""
    rng = np.random.default_rng(0)
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 256, (100, 70, 3), np.uint8)).save(folder / "deep" / "b.png")
    Image.fromarray(rng.integers(0, 256, (90, 80), np.uint8)).save(folder / "deep" / "c.JPG")
    Image.fromarray(np.full((80, 64), 250, np.uint8)).save(folder / "white.tif")
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "hospital")


class Finished(NamedTuple):
    folder: Path
    output: Path
    said: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights):
    """A folder that was scored by the command, the output inside of it; not to be changed."""
    folder = write_images(tmp_path_factory.mktemp("finished") / "hospital")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["predict", str(weights), str(folder), str(folder / "results"), "--jobs", "1"]) == 0
    return Finished(folder, folder / "results", said.getvalue())


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images(output):
    return [row["image"] for row in table(output / "scores.csv")]


def test_what_is_written(finished, weights):
    output = finished.output
    rows = table(output / "scores.csv")
    assert list(rows[0]) == COLUMNS
    names = ("b.png", "white.tif", "deep/b.png", "deep/c.JPG")
    assert images(output) == [str(finished.folder / name) for name in names]
    for row in rows:
        direct = open_artifact(weights).run(load_image(row["image"], HowToDecode((64, 64)))[None].astype(np.int32))
        assert float(row["score"]) == pytest.approx(float(direct["score"][0]), abs=1e-6)
        assert float(row["p_value"]) == pytest.approx(float(direct["p_value"][0]), abs=1e-6)
        assert row["flag"] == ("" if row["warning"] else str(int(float(row["p_value"]) <= 0.05)))
        assert row["status"] == "present"
        with Image.open(output / "overlays" / row["overlay"]) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 512
    assert len({row["overlay"] for row in rows}) == len(list((output / "overlays").iterdir())) == 4
    (warned,) = [row["image"] for row in rows if "mean brightness 250.0 is outside" in row["warning"]]
    assert warned == str(finished.folder / "white.tif")
    (skipped,) = table(output / "skipped.csv")
    assert (skipped["image"], skipped["status"]) == (str(finished.folder / "broken.png"), "present")
    flagged = sum(row["flag"] == "1" for row in rows)
    assert finished.said.count("\n") == 1
    words = f"4 images scored, {flagged} above the threshold, 1 skipped, 1 outside the training range and not flagged"
    assert finished.said.startswith(words)


class Counting:
    """An artifact that notes which images it is given."""

    def __init__(self, artifact, seen):
        self.artifact, self.seen = artifact, seen
        self.facts = artifact.facts

    def run(self, image, bits=8):
        self.seen += list(image)
        return self.artifact.run(image, bits)


@pytest.fixture
def seen(monkeypatch):
    """The images that models are given from now on."""
    found = []
    monkeypatch.setattr("monai_sagan.artifact.open_artifact", lambda path: Counting(open_artifact(path), found))
    return found


def test_only_what_is_new_or_changed_is_scored(tmp_path, folder, weights, seen):
    output = tmp_path / "out"
    first = predict(weights, folder, output)
    assert (first.scored, first.earlier, len(seen)) == (4, 0, 4)
    again = predict(weights, folder, output)
    assert (again.scored, again.earlier, len(seen)) == (4, 4, 4)

    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "b.png")
    shutil.move(folder / "deep" / "c.JPG", tmp_path)
    (folder / "white.tif").write_bytes(b"broken")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "new.png")
    (folder / "broken.png").write_bytes((folder / "deep" / "b.png").read_bytes())
    before = {row["image"]: row for row in table(output / "scores.csv")}
    changed = predict(weights, folder, output)
    assert (changed.new, changed.scored, changed.earlier, changed.gone, changed.skipped) == (4, 5, 2, 1, 1)
    assert len(seen) == 7
    names = ["b.png", "broken.png", "new.png", "deep/b.png", "deep/c.JPG"]
    assert images(output) == [str(folder / name) for name in names]
    after = {row["image"]: row for row in table(output / "scores.csv")}
    assert after[str(folder / "b.png")] != before[str(folder / "b.png")]
    assert after[str(folder / "deep" / "b.png")] == before[str(folder / "deep" / "b.png")]
    assert {path.name for path in (output / "overlays").iterdir()} == {row["overlay"] for row in after.values()}
    assert [row["image"] for row in table(output / "skipped.csv")] == [str(folder / "white.tif")]
    gone = str(folder / "deep" / "c.JPG")
    assert after[gone] == before[gone] | {"status": "gone"}

    shutil.move(tmp_path / "c.JPG", folder / "deep" / "c.JPG")  # back again, as it was
    back = predict(weights, folder, output)
    assert (back.earlier, back.gone, len(seen)) == (5, 0, 7)
    assert {row["status"] for row in table(output / "scores.csv")} == {"present"}


def move_all(folder, place):
    place.mkdir()
    for path in list(folder.iterdir()):
        shutil.move(path, place)


def test_results_stay_when_the_images_leave_the_inbox(tmp_path, folder, weights, seen):
    """Images that were scored are moved elsewhere, new ones come, and at times there are none."""
    output = tmp_path / "out"
    first = predict(weights, folder, output)
    before, drawn = table(output / "scores.csv"), sorted((output / "overlays").iterdir())
    move_all(folder, tmp_path / "archive")
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (64, 64), np.uint8)).save(folder / "new.png")
    second = predict(weights, folder, output)
    assert (second.new, second.scored, second.earlier, second.gone, len(seen)) == (1, 5, 4, 4, 5)
    new, *old = table(output / "scores.csv")
    assert (new["image"], new["status"]) == (str(folder / "new.png"), "present")
    assert old == [row | {"status": "gone"} for row in before]
    assert set(drawn) < set((output / "overlays").iterdir())
    (skipped,) = table(output / "skipped.csv")
    assert (skipped["image"], skipped["status"]) == (str(folder / "broken.png"), "gone")
    assert (second.flagged, second.skipped, second.outside_range) >= (first.flagged, 1, 1)

    move_all(folder, tmp_path / "later")
    third = predict(weights, folder, output)
    assert str(third).startswith("nothing new; 5 images scored (5 of them earlier, 5 gone since), ")
    assert len(seen) == 5
    assert len(table(output / "scores.csv")) == len(list((output / "overlays").iterdir())) == 5


@pytest.mark.parametrize("name", [None, "notes.txt"])
def test_an_empty_inbox_is_nothing_new(tmp_path, weights, capsys, caplog, name):
    empty, output = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    if name:
        (empty / name).touch()
    for _ in range(2):
        assert main(["predict", str(weights), str(empty), str(output)]) == 0
        words = "nothing new; 0 images scored, 0 above the threshold, 0 skipped"
        assert capsys.readouterr().out.startswith(words)
        assert f"no images in {empty}" in caplog.messages.pop()
        assert (output / "scores.csv").read_text() == ",".join(COLUMNS) + "\n"


def test_only_unreadable_images_that_have_left(tmp_path, weights, refused):
    folder, output = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").touch()
    with refused("none of the 1 images", folder / "a.png"):
        predict(weights, folder, output)
    (folder / "a.png").unlink()
    assert (predict(weights, folder, output).skipped, len(table(output / "skipped.csv"))) == (1, 1)


def test_what_is_to_be_scored_again_is_not_lost_before(tmp_path, folder, weights):
    """A call that was to draw missing overlays is stopped, and then the images leave."""
    output = tmp_path / "out"
    predict(weights, folder, output, overlays="none")
    before = table(output / "scores.csv")
    files = {row["image"].removeprefix(f"{folder}/"): [row["image"].removeprefix(f"{folder}/")] for row in before}
    with contextlib.suppress(KeyboardInterrupt), Results(folder, output, files, "all") as results:
        assert (results.done, table(output / "scores.csv")) == (set(), [])  # rows come as they are scored
        raise KeyboardInterrupt
    assert table(output / "scores.csv") == before
    move_all(folder, tmp_path / "archive")
    assert predict(weights, folder, output, overlays="all").gone == 4
    assert table(output / "scores.csv") == [row | {"status": "gone"} for row in before]


def test_results_of_an_earlier_version_go_on(tmp_path, folder, weights, seen):
    """It had no status, and flagged images outside the training range."""
    output = tmp_path / "out"
    predict(weights, folder, output)
    before = (output / "scores.csv").read_text()
    old = "".join(line.rpartition(",")[0] + "\n" for line in before.splitlines())
    (output / "scores.csv").write_text(old)
    journal = output / "predicted.jsonl"
    journal.write_text(journal.read_text().replace('"flag": null', '"flag": true'))
    assert predict(weights, folder, output).earlier == 4
    assert len(seen) == 4
    assert (output / "scores.csv").read_text() == before


def test_which_overlays_are_drawn(tmp_path, folder, weights):
    output = tmp_path / "out"
    for overlays in ("none", "flagged", "all"):
        drawn = len(list(output.glob("overlays/*")))
        summary = predict(weights, folder, output, overlays=overlays)
        # Scored again is only what lacks its overlay.
        wanted = summary.flagged + summary.outside_range
        assert summary.earlier == {"none": 0, "flagged": 4 - wanted, "all": drawn}[overlays]
        found = {path.name for path in output.glob("overlays/*")}
        assert found == {row["overlay"] for row in table(output / "scores.csv")} - {""}
        assert len(found) == {"none": 0, "flagged": wanted, "all": 4}[overlays]


def test_one_output_has_one_artifact_and_one_folder(tmp_path, finished, weights, refused):
    other = export(tmp_path, "safetensors", valid=20)
    with refused(finished.output, "another model"):
        predict(other, finished.folder, finished.output)
    with refused(finished.output, "holds the results of", finished.folder):
        predict(weights, finished.folder / "deep", finished.output)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predict.json").write_text("{}")
    with refused(tmp_path / "out" / "predict.json", "broken"):
        predict(weights, finished.folder, tmp_path / "out")


def test_a_broken_journal(tmp_path, folder, weights, refused):
    predict(weights, folder, tmp_path / "out", overlays="none")
    (tmp_path / "out" / "predicted.jsonl").write_text("no JSON\n")
    with refused(tmp_path / "out" / "predicted.jsonl", "broken"):
        predict(weights, folder, tmp_path / "out")


def test_nothing_is_overwritten(folder, weights, refused):
    with refused(folder, "is not empty"):
        predict(weights, folder, folder)
    with refused(folder / "b.png", "is not empty"):
        predict(weights, folder, folder / "b.png")
    assert sorted(path.name for path in folder.iterdir()) == ["b.png", "broken.png", "deep", "notes.txt", "white.tif"]


def test_what_cannot_be_scored(tmp_path, weights, refused, monkeypatch):
    empty, output = tmp_path / "empty", tmp_path / "out"
    with refused(empty, "no folder"):
        predict(weights, empty, output)
    empty.mkdir()
    with refused(tmp_path / "nothing"):
        predict(tmp_path / "nothing", empty, output)
    assert not output.exists()
    (empty / "a.png").touch()
    with refused("none of the 1 images", empty / "a.png"):
        predict(weights, empty, output)
    with refused("jobs is 0"):
        predict(weights, empty, output, jobs=0)
    with refused("cannot write to", "/dev/null"):
        predict(weights, empty, "/dev/null/out")
    assert not list(output.glob("overlays/*"))


def test_every_slice_and_frame(tmp_path, weights, write_dicom):
    folder = tmp_path / "volumes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    nibabel.save(nibabel.Nifti1Image(rng.integers(0, 99, (20, 18, 3), np.int16), np.eye(4)), folder / "v.nii.gz")
    frames = rng.integers(0, 255, (3, 40, 30), np.uint8)
    write_dicom(folder / "cine.dcm", frames[0], data=frames.tobytes(), NumberOfFrames=3)
    pages = [Image.fromarray(frame) for frame in frames[:2]]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    summary = predict(weights, folder, tmp_path / "out")
    parts = ["cine.dcm#0", "cine.dcm#1", "cine.dcm#2", "pages.tif#0", "pages.tif#1"]
    slices = ["v.nii.gz#z0", "v.nii.gz#z1", "v.nii.gz#z2"]
    assert images(tmp_path / "out") == [str(folder / part) for part in parts + slices]
    assert summary.skipped == 0
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 8
    narrow = predict(weights, folder, tmp_path / "out", slice_axis=0, slice_range=(0.0, 0.1))
    assert (narrow.scored, narrow.earlier) == (7, 5)
    assert images(tmp_path / "out")[5:] == [str(folder / f"v.nii.gz#x{i}") for i in range(2)]
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 7  # those of the other slices are gone


def test_the_runs_own_way_of_decoding(tmp_path, write_dicom):
    """A model of color images prepared as the published ones, without empty ones; too few normals for a threshold."""
    artifact = export(tmp_path, "safetensors", valid=5, in_channels=3, preparation="med_ad", min_foreground=0.5)
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4096, (90, 80), np.uint16)
    write_dicom(folder / "export", pixels, BitsStored=12, WindowCenter=700, WindowWidth=300)  # without a suffix
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "empty.png")
    summary = predict(artifact, folder, tmp_path / "out", overlays="flagged")
    (row,) = table(tmp_path / "out" / "scores.csv")
    pixels = load_image(folder / "export", HowToDecode((64, 64), 3, "med_ad"))
    direct = open_artifact(artifact).run(pixels[None].astype(np.int32))
    assert float(row["score"]) == pytest.approx(float(direct["score"][0]), abs=1e-6)
    (left_out,) = table(tmp_path / "out" / "skipped.csv")
    assert "foreground 0.000" in left_out["reason"]
    assert (summary.flagged, row["flag"]) == (None, "")


def test_images_unlike_the_training_images_are_not_flagged(tmp_path, weights):
    """A score above the threshold means nothing there: no flag, counted apart, and the picture says so."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, level in enumerate((0, 255)):
        stripes = np.where(np.arange(64) % 2, level, 255 - level // 16).astype(np.uint8)
        Image.fromarray(np.tile(stripes, (64, 1))).save(folder / f"{number}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(folder / "like.png")
    summary = predict(weights, folder, tmp_path / "out", overlays="flagged")
    rows = {Path(row["image"]).name: row for row in table(tmp_path / "out" / "scores.csv")}
    assert rows["1.png"]["warning"]
    assert float(rows["1.png"]["p_value"]) <= 0.05
    assert rows["1.png"]["flag"] == ""
    assert rows["1.png"]["overlay"]  # it needs a look
    assert (rows["like.png"]["warning"], rows["like.png"]["flag"]) == ("", "0")
    assert summary.outside_range == sum(row["flag"] == "" for row in rows.values())
    assert summary.flagged == sum(row["flag"] == "1" for row in rows.values())
    assert f"{summary.flagged} above the threshold, " in str(summary)
    assert f"{summary.outside_range} outside the training range and not flagged" in str(summary)
