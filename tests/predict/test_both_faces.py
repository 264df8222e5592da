"""The contract of scoring a folder, whichever face asks for it: ``inference.json`` or ``monai-sagan predict``.

Both give the same rows, pictures and errors for the same files, and resume alike.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import tracemalloc
from contextlib import closing
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_sagan.artifact.export import export_artifact
from monai_sagan.bundle import bundle_path
from monai_sagan.data.formats.tasks import HowToDecode, fit_image
from monai_sagan.data.training_range import measure_training_range
from monai_sagan.engines.inference import infer
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.models.trained import load_trained
from monai_sagan.output_folder import hold_folder
from monai_sagan.pictures.overlay import Colors
from monai_sagan.predict import predict
from monai_sagan.predict.folder import FolderScorer
from monai_sagan.predict.results import Results
from monai_sagan.predict.rules import ModelFacts, ScoreRules

COLUMNS = ["image", "score", "p_value", "flag", "warning", "overlay", "status"]
FACES = ("inference", "predict")


def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 90, 80), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its file, its artifact beside it.

    It knows noise: dark images are outside its range, and one of the three frames of the folder is below its threshold.
    """
    from monai_sagan.methods import resolve_settings
    from monai_sagan.models.trained import describe_trained
    from monai_sagan.networks import SaganGenerator

    path = tmp_path_factory.mktemp("model") / "model.pt"
    settings = resolve_settings("paper", channels=4, num_res_blocks=1, min_foreground=0.01)
    torch.manual_seed(0)
    network = SaganGenerator(**settings.generator())
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 1, 64, 64), np.uint8))
    training_range = measure_training_range(noise) | {"standard_deviation": [0, 99], "likeness": [-1, 1]}
    training_range |= {"mean_brightness": [90, 150], "mean_image": torch.tensor(training_range["mean_image"])}
    save_tensors(describe_trained(network, settings, noise, iteration=7, training_range=training_range), path)
    seen = [fit_image(Image.fromarray(frame), HowToDecode((64, 64))) for frame in frames()]
    scores = load_trained(path).score(torch.from_numpy(np.stack(seen)))[0].sort().values
    save_tensors(load_tensors(path) | {"valid_normal_scores": scores[:2].mean().expand(19).clone()}, path)
    export_artifact(path, path.parent / "artifact", "safetensors")
    return path


@pytest.fixture
def folder(tmp_path, write_dicom):
    """Every kind of file: several frames, slices, 16 bits, EXIF, outside the training range, empty, broken, none."""
    folder = tmp_path / "hospital"
    (folder / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    pages = [Image.fromarray(frame) for frame in frames()]
    pages[0].save(folder / "b.png")
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    pages[1].save(folder / "phone.jpg", exif=exif, quality=95)
    Image.fromarray(frames()[2].astype(np.uint16) * 257).save(folder / "wide.png")
    write_dicom(folder / "deep" / "cine", frames()[0], data=frames().tobytes(), NumberOfFrames=3)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(frames(), 0, 2), np.eye(4)), folder / "deep" / "v.nii.gz")
    Image.fromarray(np.full((64, 64), 20, np.uint8)).save(folder / "dark.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "black.png")
    (folder / "broken.png").write_bytes((folder / "b.png").read_bytes()[:500])
    (folder / "broken.nii.gz").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no image")
    return folder


def score(face, model, folder, output, **options):
    """Score a folder as a user of the face does, without a command's start."""
    if face == "predict":
        artifact = model if model.is_dir() else model.parent / "artifact"
        predict(artifact, folder, output, **{"jobs": 1} | options)
        return
    infer(model, folder, output, **{"jobs": 1, "batch_size": 4} | options)


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(rows, name):
    return [float(row[name]) for row in rows]


def same_but_scores(rows):
    return [{name: value for name, value in row.items() if name != "score"} for row in rows]


@pytest.mark.parametrize(
    ("overlays", "slices"),
    [("all", {}), ("flagged", {"slice_axis": 0, "slice_range": (0.5, 0.52)}), ("none", {})],
    ids=["all", "flagged", "none"],
)
def test_the_same_rows_and_pictures(tmp_path, model, folder, overlays, slices):
    for face in FACES:
        score(face, model, folder, tmp_path / face, overlays=overlays, **slices)
    one, other = (table(tmp_path / face / "scores.csv") for face in FACES)
    assert list(one[0]) == list(other[0]) == COLUMNS
    cut = [f"deep/v.nii.gz#{name}" for name in (("x45", "x46") if slices else ("z0", "z1", "z2"))]
    assert [row["image"].removeprefix(f"{folder}/") for row in one] == [
        *("b.png", "dark.png", *(f"pages.tif#{i}" for i in range(3)), "phone.jpg", "wide.png"),
        *(*(f"deep/cine#{i}" for i in range(3)), *cut),
    ]
    np.testing.assert_allclose(numbers(one, "score"), numbers(other, "score"), rtol=0, atol=1e-5)
    assert same_but_scores(one) == same_but_scores(other)
    flags = {row["image"].rsplit("/", 1)[1]: row["flag"] for row in one}
    assert flags["dark.png"] == ""
    assert set(flags.values()) == {"", "0", "1"}
    assert {row["status"] for row in one} == {"present"}

    first, second = ((tmp_path / face / "skipped.csv").read_text() for face in FACES)
    assert first == second
    skipped = [row["image"] for row in table(tmp_path / "predict" / "skipped.csv")]
    assert skipped == [str(folder / name) for name in ("black.png", "broken.nii.gz", "broken.png")]

    drawn = [sorted(path.name for path in (tmp_path / face).glob("overlays/*")) for face in FACES]
    assert drawn[0] == drawn[1] == sorted(row["overlay"] for row in one if row["overlay"])
    assert len(drawn[0]) == {"all": len(one), "none": 0}.get(overlays, list(flags.values()).count("1") + 1)
    for name in drawn[0][:2]:
        first, second = (np.asarray(Image.open(tmp_path / face / "overlays" / name)).astype(int) for face in FACES)
        assert first.shape == second.shape
        assert np.abs(first - second).mean() < 1


def test_inference_json_is_the_inference_face(tmp_path, model, folder, caplog):
    config = str(Path(bundle_path("folder")) / "inference.json")
    values = {"dataset_dir": str(folder), "model": str(model), "output_dir": str(tmp_path / "bundle"), "device": "cpu"}
    flow = ConfigWorkflow(config, workflow_type="infer", logging_file=False, **values)
    flow.initialize()
    assert not flow.check_properties()
    with caplog.at_level(logging.INFO):
        flow.run()
    flow.finalize()
    score("inference", model, folder, tmp_path / "call")
    one, other = (table(tmp_path / name / "scores.csv") for name in ("bundle", "call"))
    np.testing.assert_allclose(numbers(one, "score"), numbers(other, "score"), rtol=0, atol=1e-6)
    assert same_but_scores(one) == same_but_scores(other)
    assert any(line.startswith("13 images scored, ") for line in caplog.messages)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        *("config.json", "log.txt", "overlays", "predict.json", "predicted.jsonl", "scores.csv", "skipped.csv")
    ]


@pytest.mark.parametrize("face", FACES)
def test_a_call_that_was_killed_is_resumed(tmp_path, model, folder, face):
    """The journal ends within a line; only what it lacks is scored, and the tables are those of one call."""
    score(face, model, folder, tmp_path / "whole", overlays="none")
    score(face, model, folder, tmp_path / "killed", overlays="none")
    journal = tmp_path / "killed" / "predicted.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:20])
    (tmp_path / "killed" / "scores.csv").unlink()
    kept = json.loads(lines[0])
    kept["rows"][0] |= {"p_value": 0.125}  # an earlier call's result, to be seen in the table
    journal.write_text(journal.read_text().replace(lines[0], json.dumps(kept) + "\n"))
    score(face, model, folder, tmp_path / "killed", overlays="none")
    whole, resumed = (table(tmp_path / name / "scores.csv") for name in ("whole", "killed"))
    assert resumed[0] == whole[0] | {"p_value": "0.125000"}
    np.testing.assert_allclose(numbers(resumed, "score"), numbers(whole, "score"), rtol=0, atol=1e-6)
    assert same_but_scores(resumed[1:]) == same_but_scores(whole[1:])
    assert (tmp_path / "killed" / "skipped.csv").read_bytes() == (tmp_path / "whole" / "skipped.csv").read_bytes()


@pytest.mark.parametrize("face", FACES)
def test_results_stay_when_images_leave_and_come(tmp_path, model, folder, face):
    output = tmp_path / "out"
    score(face, model, folder, output)
    before = {row["image"]: row for row in table(output / "scores.csv")}
    (folder / "pages.tif").unlink()
    Image.fromarray(frames()[1]).save(folder / "new.png")
    (folder / "b.png").write_bytes((folder / "new.png").read_bytes())
    score(face, model, folder, output)
    after = {row["image"]: row for row in table(output / "scores.csv")}
    changed = {str(folder / name) for name in ("new.png", "b.png")}
    gone = {name for name in before if "pages.tif" in name}
    assert {name for name in after if after[name] != before.get(name)} == changed | gone
    assert all(after[name] == before[name] | {"status": "gone"} for name in gone)
    assert {path.name for path in (output / "overlays").iterdir()} == {row["overlay"] for row in after.values()}


def noise_facts(side=64):
    return ModelFacts({"model": "noise"}, HowToDecode((side, side)), Colors(1.0, 0.5), np.linspace(0, 1, 19))


def brightness(pixels):
    return pixels.mean(axis=(1, 2, 3)) / 255


def test_a_call_that_is_interrupted_writes_complete_tables(tmp_path, folder):
    output = tmp_path / "out"
    scorer = FolderScorer(folder, output, noise_facts(), overlays="none", jobs=1)
    with closing(scorer.batches()) as batches:
        for number, pixels in enumerate(batches):
            if number == 2:
                break
            scorer.keep(brightness(pixels), None)
    first = [row["image"] for row in table(output / "scores.csv")]
    assert first == [str(folder / name) for name in ("b.png", "black.png")]
    again = FolderScorer(folder, output, noise_facts(), overlays="none", jobs=1)
    with closing(again.batches()) as batches:
        for pixels in batches:
            again.keep(brightness(pixels), None)
    assert again.summary().earlier == 2
    names = [row["image"] for row in table(output / "scores.csv")]
    assert len(names) == len(set(names)) == 14
    assert names[:2] == first


def peak_of(call):
    """The most memory, in bytes, that Python's objects and NumPy's arrays have at a time during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pixels_are_not_collected(tmp_path):
    """An image more costs much less than its pixels: all that grows is the list of names."""
    side, counts, peaks = 128, (150, 750), []
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)).save(picture)

    def score_noise(folder, output):
        scorer = FolderScorer(folder, output, noise_facts(side), overlays="none", jobs=1)
        with closing(scorer.batches()) as batches:
            for pixels in batches:
                scorer.keep(brightness(pixels), None)
        assert scorer.summary().scored == len(list(folder.iterdir()))

    for count in counts:
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            os.link(picture, folder / f"{i:04}.png")
        peaks.append(peak_of(lambda folder=folder, count=count: score_noise(folder, tmp_path / f"out{count}")))
    assert (peaks[1] - peaks[0]) / (counts[1] - counts[0]) < side * side / 4


def test_rows_are_not_collected(tmp_path):
    """They are read from the journal when they are needed."""
    warning = "mean brightness 3.0 is outside 90.0 to 150.0 of the training images"
    numbers = {"score": 0.5, "p_value": 0.5, "flag": None, "warning": warning, "overlay": "x" * 60}

    def keep(names, output):
        with Results(tmp_path, output, {name: (name,) for name in names}, "none") as results:
            for start in range(0, len(names), 100):
                rows = [{"image": name} | numbers for name in names[start : start + 100]]
                results.add([{"file": row["image"], "state": [1, 2], "rows": [row]} for row in rows])
        assert sum(len(entry["rows"]) for entry in results.entries()) == len(names)

    counts = (500, 2500)
    few, many = (peak_of(lambda n=n: keep([f"{i:05}" for i in range(n)], tmp_path / f"out{n}")) for n in counts)
    assert (many - few) / (counts[1] - counts[0]) < 400  # bytes; a row has some 1,000


def test_a_score_that_is_not_finite_is_skipped_and_tried_again(tmp_path, folder):
    for broken, skipped in (("dark.png", 3), ("", 2)):
        scorer = FolderScorer(folder, tmp_path / "out", noise_facts(), batch_size=1, overlays="none", jobs=1)
        with closing(scorer.batches()) as batches:
            for pixels in batches:
                dark = broken and brightness(pixels)[0] == pytest.approx(20 / 255)
                scorer.keep([math.nan] if dark else brightness(pixels), None)
        assert scorer.summary().skipped == skipped
        reasons = {row["image"]: row["reason"] for row in table(tmp_path / "out" / "skipped.csv")}
        assert (str(folder / "dark.png") in reasons) == bool(broken)
    assert "dark.png has the score nan" not in "".join(reasons.values())


def test_a_broken_model_is_an_error(tmp_path, model, folder, refused):
    """It cannot be exported."""
    content = load_tensors(model)
    content["model"]["to_image.weight"].fill_(float("nan"))
    save_tensors(content, tmp_path / "model.pt")
    with refused("none of the 16 images", folder, "could be scored", "b.png has the score nan"):
        score("inference", tmp_path / "model.pt", folder, tmp_path / "out")


@pytest.mark.parametrize("face", FACES)
def test_an_empty_folder_is_nothing_new(tmp_path, model, face, caplog):
    (tmp_path / "empty" / "within").mkdir(parents=True)
    (tmp_path / "empty" / "scan.heic").touch()
    score(face, model, tmp_path / "empty", tmp_path / "out")
    assert (tmp_path / "out" / "scores.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert (tmp_path / "out" / "skipped.csv").read_text() == "image,reason,status\n"
    assert "no images in" in caplog.text
    assert ".heic (1)" in caplog.text


@pytest.mark.parametrize("face", FACES)
def test_what_is_refused_changes_nothing(tmp_path, model, folder, face, refused):
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").touch()
    older = tmp_path / "older"  # an inference run of a version that had a label and heat maps
    older.mkdir()
    (older / "config.json").write_text(json.dumps({"kind": "inference run"}))
    (older / "scores.csv").write_text("image,label,score\n")
    mine = tmp_path / "mine"
    score(face, model, folder, mine, overlays="none")
    other = tmp_path / "model.pt"
    save_tensors(load_tensors(model) | {"iteration": 8}, other)
    export_artifact(other, tmp_path / "artifact", "safetensors")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    for output, chosen, images, options, words in (
        (full, model, folder, {}, ("is not empty", "name a new folder")),
        (older, model, folder, {}, ("an inference run", "name another folder")),
        (mine, other, folder, {}, ("another model", "name a new folder")),
        (mine, model, folder / "deep", {}, ("holds the results of", folder)),
        (tmp_path / "new", model, tmp_path / "none", {}, ("no folder", tmp_path / "none")),
        (tmp_path / "new", model, folder / "b.png", {}, ("no folder", folder / "b.png")),
        (tmp_path / "new", model, folder, {"slice_axis": 3}, ("slice_axis is 3",)),
        (tmp_path / "new", model, folder, {"slice_range": (0.8, 0.2)}, ("slice_range is (0.8, 0.2)",)),
        (tmp_path / "new", model, folder, {"overlays": "some"}, ("overlays is 'some'",)),
        (tmp_path / "new", model, folder, {"max_unreadable": 2}, ("max_unreadable is 2",)),
    ):
        with refused(*words):
            score(face, chosen, images, output, **options)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
@pytest.mark.parametrize("face", FACES)
def test_a_second_process_is_refused(tmp_path, model, folder, face, refused):
    with hold_folder(tmp_path / "out", "prediction"), refused(f"process {os.getpid()}", tmp_path / "out"):
        score(face, model, folder, tmp_path / "out")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("share", "allowed"), [(0.1, False), (0.14, True)])
def test_how_many_may_be_unreadable(tmp_path, model, folder, face, share, allowed, refused):
    """What was scored stays; 2 of the 15 images that are not left out are broken."""
    if allowed:
        score(face, model, folder, tmp_path / "out", overlays="none", max_unreadable=share)
    else:
        with refused("2 of 15 images", "max_unreadable 0.1", "skipped.csv"):
            score(face, model, folder, tmp_path / "out", overlays="none", max_unreadable=share)
    assert len(table(tmp_path / "out" / "scores.csv")) == 13


@pytest.mark.parametrize("face", FACES)
def test_own_overlays_are_not_input(model, folder, face):
    score(face, model, folder, folder / "results")
    before = (folder / "results" / "scores.csv").read_bytes()
    score(face, model, folder, folder / "results")
    assert (folder / "results" / "scores.csv").read_bytes() == before


def test_one_face_resumes_what_the_other_began(tmp_path, model, folder):
    """Where both use the same artifact."""
    artifact, output = model.parent / "artifact", tmp_path / "out"
    score("predict", artifact, folder, output, overlays="none")
    before = (output / "scores.csv").read_bytes()
    score("inference", artifact, folder, output, overlays="none")
    assert (output / "scores.csv").read_bytes() == before


def test_rules_without_anything_known():
    rules = ScoreRules([], None)
    assert rules.threshold is None
    (row,) = rules.rows([0.5], np.zeros((1, 1, 8, 8), np.uint8))
    assert row == {"score": 0.5, "p_value": 1.0, "warning": "", "flag": None}
