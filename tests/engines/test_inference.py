"""Any folder of images is scored; what cannot be read is listed, not fatal."""

from __future__ import annotations

import csv
import logging

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sagan.data.batches import to_unit_range
from monai_sagan.data.cache import load_image
from monai_sagan.data.training_range import measure_typical
from monai_sagan.engines.inference import AnomalyInferer, infer
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.metrics import conformal_p_values
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import load_trained


@pytest.fixture
def model(tmp_path, save_model):
    save_model(tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def folder(tmp_path, write_dicom):
    """Good images of several formats and sizes, a broken one, and files that are no images."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "hospital"
    (folder / "deep" / "er").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 256, (100, 70, 3), np.uint8)).save(folder / "deep" / "c.JPG")
    write_dicom(folder / "deep" / "er" / "a.dcm", rng.integers(0, 4096, (90, 80), np.uint16), BitsStored=12)
    nibabel.save(nibabel.Nifti1Image(rng.integers(0, 99, (70, 80, 1), np.int16), np.eye(4)), folder / "d.nii.gz")
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_bfloat16_gives_nearly_the_same_scores(tmp_path, folder, model):
    wide, narrow = (
        [float(row[2]) for row in table(infer(model, folder, tmp_path / str(amp), amp=amp))[1:]]
        for amp in (False, True)
    )
    assert narrow != wide
    np.testing.assert_allclose(narrow, wide, rtol=0.01)


def test_good_ones_are_scored_and_broken_ones_listed(tmp_path, folder, model, caplog):
    with caplog.at_level(logging.INFO):
        path = infer(model, str(folder), tmp_path / "out", batch_size=3)
    assert path == tmp_path / "out" / "scores.csv"
    header, *rows = table(path)
    assert header == ["image", "label", "score", "p_value", "flag", "warning"]
    good = [folder / "b.png", folder / "d.nii.gz", folder / "deep" / "c.JPG", folder / "deep" / "er" / "a.dcm"]
    assert [row[:2] for row in rows] == [[str(image), ""] for image in good]
    how = load_trained(model).settings.decoding()
    pixels = torch.stack([torch.from_numpy(load_image(image, how).copy()) for image in good])
    wanted = Scorer(load_trained(model).network, (64, 64)).score(pixels)
    np.testing.assert_allclose([float(row[2]) for row in rows], wanted, atol=1e-6)
    p_values = conformal_p_values(load_trained(model).valid_normal_scores, wanted)
    np.testing.assert_allclose([float(row[3]) for row in rows], p_values, atol=1e-6)

    header, *skipped = table(tmp_path / "out" / "skipped.csv")
    assert header == ["image", "reason"]
    assert [row[0] for row in skipped] == [str(folder / "broken.png")]
    assert "not a readable image" in skipped[0][1]
    assert any(
        str(folder / "broken.png") in record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    )
    assert len(list((tmp_path / "out" / "heatmaps").glob("*_unlabeled_*.png"))) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("config.json", "heatmaps", "log.txt", "scores.csv", "skipped.csv")
    ]


@pytest.mark.parametrize("smoothing", ["none", "gaussian", "guided"])
@pytest.mark.parametrize("passes", [1, 4])
def test_the_inferer_maps_as_the_run_did(passes, smoothing, tmp_path, save_model, random_pixels):
    save_model(tmp_path / "model.pt", map_passes=passes, map_smoothing=smoothing)
    trained, pixels = load_trained(tmp_path / "model.pt"), random_pixels(5)
    with torch.inference_mode():
        found = AnomalyInferer(trained.settings, batch_size=8)(to_unit_range(pixels), trained.network)
        _, (maps, _, restored) = next(trained.batches(pixels, batch_size=8 if passes == 1 else 40))
        assert torch.equal(found["anomaly_score"], trained.score(pixels, batch_size=8)[0])
    assert found["restored"].shape == pixels.shape
    torch.testing.assert_close(found["restored"], restored)
    torch.testing.assert_close(found["anomaly_map"], maps)


@pytest.mark.parametrize(("share", "allowed"), [(0.19, False), (0.2, True), (1.5, False)])
def test_how_many_may_be_unreadable(share, allowed, tmp_path, folder, model, refused):
    if allowed:
        assert len(table(infer(model, folder, tmp_path / "out", max_unreadable=share))) == 5
        return
    with refused("max_unreadable", share, *["1 of 5 images", "broken.png", "--check"] * (share < 1)):
        infer(model, folder, tmp_path / "out", max_unreadable=share)
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_results_are_replaced(tmp_path, folder, model):
    infer(model, folder, tmp_path / "out")
    (folder / "broken.png").unlink()
    (folder / "b.png").unlink()
    infer(model, folder, tmp_path / "out")
    assert len(table(tmp_path / "out" / "scores.csv")) == 4
    assert table(tmp_path / "out" / "skipped.csv") == [["image", "reason"]]
    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 3


@pytest.mark.parametrize(("count", "drawn"), [(0, 0), (1, 3), (12, 4)])
def test_how_many_heatmaps(tmp_path, folder, model, count, drawn):
    infer(model, folder, tmp_path / "out", heatmaps=count)
    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == drawn


def test_color_models(tmp_path, folder, save_model):
    save_model(tmp_path / "color.pt", in_channels=3)
    assert len(table(infer(tmp_path / "color.pt", folder, tmp_path / "out"))) == 5


def test_folders_without_images(tmp_path, model, refused):
    empty = tmp_path / "empty"
    with refused(empty, "no folder"):
        infer(model, empty, tmp_path / "out")
    empty.mkdir()
    (empty / "notes.txt").touch()
    with refused(empty, "no images", ".png", ".dcm"):
        infer(model, empty, tmp_path / "out")
    (empty / "a.png").touch()
    (empty / "b.dcm").touch()
    with refused("none of the 2 images", empty, "a.png"):
        infer(model, empty, tmp_path / "out")
    with refused(empty / "a.png", "no folder"):
        infer(model, empty / "a.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_model(tmp_path, folder, refused):
    with refused(tmp_path / "none.pt"):
        infer(tmp_path / "none.pt", folder, tmp_path / "out")


def test_a_broken_model_writes_nothing(tmp_path, folder, model, refused):
    content = load_tensors(model)
    content["model"]["to_image.weight"].fill_(float("nan"))
    save_tensors(content, model)
    with refused("4 scores are not finite"):
        infer(model, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_slices_of_a_volume_are_images(tmp_path, model):
    folder = tmp_path / "volumes"
    folder.mkdir()
    volume = np.random.default_rng(0).integers(0, 99, (20, 18, 5), np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "v.nii.gz")
    rows = table(infer(model, folder, tmp_path / "out"))[1:]
    assert [row[0] for row in rows] == [f"{folder / 'v.nii.gz'}#z{i}" for i in range(5)]
    assert len(table(infer(model, folder, tmp_path / "x", slice_axis=0))) == 1 + 20


def test_heat_maps_of_an_earlier_call_are_no_input(folder, model):
    first = table(infer(model, folder, folder / "results"))
    assert len(list((folder / "results" / "heatmaps").iterdir())) == 4
    assert table(infer(model, folder, folder / "results")) == first


def test_images_unlike_the_training_images_are_warned_of(tmp_path, folder, model, random_pixels, caplog):
    typical = measure_typical(random_pixels(9))
    typical |= {"mean_image": torch.tensor(typical["mean_image"])}
    save_tensors(load_tensors(model) | {"typical": typical, "valid_normal_scores": torch.zeros(19)}, model)
    Image.fromarray(np.full((64, 64), 3, np.uint8)).save(folder / "a_dark.png")
    low, high = typical["mean_brightness"]
    with caplog.at_level(logging.INFO):
        header, *rows = table(infer(model, folder, tmp_path / "out"))
    flags = {row[0].rsplit("/", 1)[1]: row[header.index("flag")] for row in rows}
    assert flags["b.png"] == "1"
    warnings = {row[0].rsplit("/", 1)[1]: row[header.index("warning")] for row in rows}
    assert warnings["a_dark.png"].startswith(f"mean brightness 3.0 is outside {low:.1f} to {high:.1f} of the training")
    assert warnings["b.png"] == ""
    assert all(flags[name] == ("" if warning else "1") for name, warning in warnings.items())
    counted = f"{len(rows)} images scored, {list(flags.values()).count('1')} above the threshold, 1 skipped"
    assert any(line.startswith(counted) for line in caplog.messages)
    (line,) = (record.message for record in caplog.records if "unlike the training images" in record.message)
    assert f"of {len(rows)} images" in line
    assert warnings["a_dark.png"] in line
