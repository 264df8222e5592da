"""One folder scored by ``inference.json``'s parts and by an exported model: the same images, numbers and flags."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sagan.artifact.export import export_artifact
from monai_sagan.data.array_store import ArrayFile, write_rows
from monai_sagan.data.formats.tasks import HowToDecode, fit_image
from monai_sagan.data.training_range import measure_typical
from monai_sagan.engines.inference import infer
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.models.trained import load_trained
from monai_sagan.predict import predict
from monai_sagan.predict.folder import ScoreRules

SHARED = ("image", "score", "p_value", "flag", "warning")


def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 90, 80), np.uint8)


@pytest.fixture
def model(tmp_path, save_model, random_pixels):
    """It knows noise: dark images are unlike it, and one of the three frames of the folder is below its threshold."""
    path = tmp_path / "model.pt"
    save_model(path, min_foreground=0.01)
    typical = measure_typical(random_pixels(9)) | {"standard_deviation": [0, 99], "likeness": [-1, 1]}
    typical |= {"mean_brightness": [90, 150], "mean_image": torch.tensor(typical["mean_image"])}
    seen = [fit_image(Image.fromarray(frame), HowToDecode((64, 64))) for frame in frames()]
    scores = load_trained(path).score(torch.from_numpy(np.stack(seen)))[0].sort().values
    normal = {"valid_normal_scores": scores[:2].mean().expand(19).clone()}
    save_tensors(load_tensors(path) | normal | {"typical": typical}, path)
    return path


@pytest.fixture
def folder(tmp_path, write_dicom):
    folder = tmp_path / "clinic" / "hospital"
    (folder / "deep").mkdir(parents=True)
    pages = [Image.fromarray(frame) for frame in frames()]
    pages[0].save(folder / "b.png")
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    write_dicom(folder / "deep" / "cine", frames()[0], data=frames().tobytes(), NumberOfFrames=3)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(frames(), 0, 2), np.eye(4)), folder / "deep" / "v.nii.gz")
    Image.fromarray(np.full((64, 64), 20, np.uint8)).save(folder / "dark.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "empty.png")
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("no image")
    return folder


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("slices", [{}, {"slice_axis": 0, "slice_range": (0.5, 0.52)}])
def test_both_ways_give_the_same_rows(tmp_path, model, folder, slices):
    predicted, inferred = tmp_path / "predicted", tmp_path / "inferred"
    predict(export_artifact(model, tmp_path / "artifact", "safetensors"), folder, predicted, jobs=1, **slices)
    infer(model, folder, inferred, batch_size=4, **slices)
    one, other = table(predicted / "scores.csv"), table(inferred / "scores.csv")
    names = [row["image"].removeprefix(f"{folder}/") for row in one]
    cut = [f"deep/v.nii.gz#{name}" for name in (("x45", "x46") if slices else ("z0", "z1", "z2"))]
    assert names == ["b.png", "dark.png", *(f"pages.tif#{i}" for i in range(3)),
                     *(f"deep/cine#{i}" for i in range(3)), *cut]  # fmt: skip
    for name in SHARED:
        if name == "score":
            found = [[float(row[name]) for row in rows] for rows in (one, other)]
            np.testing.assert_allclose(*found, atol=1e-5)
        else:
            assert [row[name] for row in one] == [row[name] for row in other]
    flags = {row["image"].rsplit("/", 1)[1]: row["flag"] for row in one}
    assert flags["dark.png"] == ""
    assert set(flags.values()) == {"", "0", "1"}
    skipped = [[(row["image"], row["reason"]) for row in table(out / "skipped.csv")] for out in (predicted, inferred)]
    assert skipped[0] == skipped[1]
    assert [name for name, _ in skipped[0]] == [str(folder / "broken.png"), str(folder / "empty.png")]


def test_a_result_folder_around_the_images(tmp_path, model, folder):
    """Only the pictures of an earlier call are not input, wherever the output lies."""
    rows = table(infer(model, folder, tmp_path / "elsewhere"))
    assert table(infer(model, folder, folder.parent)) == rows


def test_rules_without_anything_known():
    rules = ScoreRules([], None)
    assert rules.threshold is None
    (row,) = rules.rows([0.5], np.zeros((1, 1, 8, 8), np.uint8))
    assert row == {"score": 0.5, "p_value": 1.0, "warning": "", "flag": None}


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_rows_of_a_number_that_nobody_knows(tmp_path, count):
    rows = np.random.default_rng(0).integers(0, 256, (count, 1, 2, 3), np.uint8)
    assert write_rows(tmp_path / "a.npy", iter(rows), (1, 2, 3)) == count
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
    if count:
        np.testing.assert_array_equal(ArrayFile(tmp_path / "a.npy").read(np.arange(count)), rows)
