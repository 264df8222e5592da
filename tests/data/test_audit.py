"""Leaks between the splits are found, by what was decoded; and what cannot be known is said."""

from __future__ import annotations

import io
import json
import logging

import pytest
from PIL import Image, ImageOps

from monai_sagan.data.audit import audit_splits, splits_to_evaluate
from monai_sagan.data.cache import HowToDecode, ImageCache
from monai_sagan.data.datalist import SPLITS
from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.digests import describe_run, seen_images, splits_digest
from monai_sagan.data.near_duplicates import NEAR
from monai_sagan.data.unreadable import keep_readable
from monai_sagan.files import save_tensors

HOW = HowToDecode((64, 64))


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(phantom_image(0, i, abnormal=False)[0]) for i in range(20)]


@pytest.fixture
def splits(tmp_path, pictures):
    """Four phantoms in each split."""
    found = {}
    for number, name in enumerate(SPLITS):
        found[name] = []
        for i in range(4):
            path = tmp_path / f"{name}_{i}.png"
            pictures[4 * number + i].save(path)
            found[name].append({"image": str(path), "label": int(i == 0 and name != "train_normal")})
    return found


@pytest.fixture
def audit(tmp_path, splits):
    def run(strict=False):
        images = ImageCache(splits, HOW, tmp_path / "cache", mixed_images=True)
        described = keep_readable(splits, images, tmp_path)
        return audit_splits(described, images, tmp_path, strict)

    return run


def copy(splits, source, target, change=lambda image: image):
    """Put a changed copy of one split's first image in the place of another split's second."""
    with Image.open(splits[source][0]["image"]) as image:
        change(image).save(splits[target][1]["image"])


def as_jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("L")


def test_clean_splits(tmp_path, splits, audit, caplog):
    with caplog.at_level(logging.INFO):
        found = audit(strict=True)
    assert found["warnings"] == []
    assert found["splits"]["train_unlabeled"] == {
        "images": 4, "abnormal": 1, "anomaly_ratio": 0.25, "patients": None
    }  # fmt: skip
    assert json.loads((tmp_path / "audit.json").read_text()) == found
    written = json.loads((tmp_path / "splits.json").read_text())
    assert [item["image"] for item in written["test"]] == [item["image"] for item in splits["test"]]
    said = " ".join(record.getMessage() for record in caplog.records)
    for part in ("train_normal 4", "test 4", "ratio of train_unlabeled: 0.25", "no patient is known for 20 of 20"):
        assert part in said


@pytest.mark.parametrize("other", ["valid_normal", "test"])
def test_exact_duplicates(tmp_path, splits, audit, other, refused):
    copy(splits, "train_normal", other)
    found = audit()
    assert found["exact_duplicates"]["count"] == 1
    (pair,) = found["exact_duplicates"]["examples"]
    assert set(pair["images"]) == {splits["train_normal"][0]["image"], splits[other][1]["image"]}
    assert found["near_duplicates"]["count"] == 0
    for name in ("audit.json", "splits.json"):
        (tmp_path / name).unlink()
    with refused("strict", "same pixels", splits["train_normal"][0]["image"], "the first of 1 findings"):
        audit(strict=True)
    assert not list(tmp_path.glob("*.json"))


def test_an_image_that_is_there_many_times_counts_once_a_copy(splits, audit):
    for item in splits["test"][1:]:
        with Image.open(splits["train_normal"][0]["image"]) as image:
            image.save(item["image"])
    assert audit()["exact_duplicates"]["count"] == 3


def test_duplicates_on_one_side_are_no_leak(splits, audit):
    for name in ("train_normal", "train_unlabeled", "test"):
        copy(splits, name, name)
    copy(splits, "valid_unlabeled", "valid_normal")
    assert audit()["warnings"] == []


@pytest.mark.parametrize("change", [lambda image: image, as_jpeg], ids=["the same", "jpeg"])
def test_a_normal_image_among_the_unlabeled_ones(splits, audit, refused, change):
    """No leak, but what training learns by is wrong."""
    copy(splits, "train_normal", "train_unlabeled", change)
    found = audit()
    assert found["exact_duplicates"]["count"] == found["near_duplicates"]["count"] == 0
    assert found["normal_and_unlabeled"]["count"] == 1
    (pair,) = found["normal_and_unlabeled"]["examples"]
    assert pair["images"] == [splits["train_normal"][0]["image"], splits["train_unlabeled"][1]["image"]]
    assert pair["splits"] == ["train_normal", "train_unlabeled"]
    (warning,) = found["warnings"]
    assert warning.startswith("1 pair of the same or nearly the same images in train_normal and train_unlabeled")
    with refused("strict", "known to be normal", splits["train_unlabeled"][1]["image"]):
        audit(strict=True)


def test_an_image_in_three_places(splits, audit):
    copy(splits, "train_normal", "train_unlabeled")
    copy(splits, "train_normal", "test")
    found = audit()
    assert found["exact_duplicates"]["count"] == 2
    assert found["normal_and_unlabeled"]["count"] == 1


@pytest.mark.parametrize("change", [as_jpeg, ImageOps.mirror], ids=["jpeg", "mirrored"])
def test_near_duplicates(splits, audit, change):
    copy(splits, "valid_normal", "test", change)
    found = audit()
    assert found["near_duplicates"]["count"] == 1
    (pair,) = found["near_duplicates"]["examples"]
    assert pair["splits"] == ["valid_normal", "test"]
    assert pair["likeness"] >= NEAR
    assert found["exact_duplicates"]["count"] == 0


def test_shared_patients(splits, audit, refused):
    for name, i, patient in (("train_normal", 0, "a"), ("test", 2, "a"), ("train_unlabeled", 1, "b")):
        splits[name][i]["patient"] = patient
    splits["train_normal"][1]["patient"] = "b"  # both in training
    found = audit()
    assert found["shared_patients"]["count"] == 1
    assert found["shared_patients"]["examples"][0]["sides"] == ["test", "training"]
    assert "no patient is known for 16 of 20 images" in found["cannot_know"]
    with refused("1 patient with images in test and training", splits["test"][2]["image"]):
        audit(strict=True)


def test_ids_of_images_are_not_taken_for_patients(splits, audit):
    for name, items in splits.items():
        for i, item in enumerate(items):
            item["patient"] = f"{name} {i}"
    assert any("ids may be of images" in text for text in audit()["cannot_know"])


def test_a_kind_of_file_that_goes_with_the_label(splits, audit, pictures):
    for item in splits["train_unlabeled"]:
        with Image.open(item["image"]) as image:
            image.resize((80, 64)).save(item["image"])
    found = audit()
    assert [kind["auc"] for kind in found["file_kinds"] if kind["property"] == "size"] == [1.0, 0.5]
    assert any("size of the files alone" in warning and "train_unlabeled" in warning for warning in found["warnings"])


def test_what_a_models_file_says_of_its_images():
    digests = {name: [f"{i:024x}", f"{i:024x}"] for i, name in enumerate(SPLITS)}
    splits = {name: [{"digest": digest} for digest in found] for name, found in digests.items()}
    run = describe_run(splits, seed=5)
    assert (run["seed"], run["splits"]) == (5, splits_digest(splits))
    assert run["training"].shape == (2, 12)
    assert seen_images(run, "training") == {digests["train_normal"][0], digests["train_unlabeled"][0]}
    assert seen_images(run, "validation") == {digests["valid_normal"][0], digests["valid_unlabeled"][0]}
    assert splits_digest(splits | {"test": []}) == run["splits"] != splits_digest(splits | {"valid_normal": []})


class TestEvaluationOfOtherSplits:
    @pytest.fixture
    def described(self, tmp_path, splits, audit):
        audit()
        return keep_readable(splits, ImageCache(splits, HOW, tmp_path / "cache"), tmp_path)

    def test_those_of_the_run(self, tmp_path, described):
        (tmp_path / "history.csv").write_text("iteration,loss\n1,0.5\n")
        found = splits_to_evaluate({"test": described["test"]}, tmp_path, tmp_path / "again")
        assert found == described
        assert json.loads((tmp_path / "again" / "splits.json").read_text()) == described
        for name in ("audit.json", "history.csv"):
            assert (tmp_path / "again" / name).read_text() == (tmp_path / name).read_text()

    def test_other_test_images(self, tmp_path, described):
        found = splits_to_evaluate({"test": described["test"][1:]}, tmp_path, tmp_path / "again")
        assert found == described | {"test": described["test"][1:]}
        assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["splits.json"]  # the audit saw others

    def test_images_that_were_trained_on(self, tmp_path, described, refused):
        moved = [item | {"image": f"/elsewhere/{i}.png"} for i, item in enumerate(described["train_normal"][:1])]
        with refused("1 of 5 test images were trained on", tmp_path, "split_file"):
            splits_to_evaluate({"test": described["test"] + moved}, tmp_path, tmp_path / "again")

    @pytest.fixture
    def model(self, tmp_path, described):
        """A model's file that names the images of these splits."""
        save_tensors({"settings": {}, "run": describe_run(described, seed=0)}, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    def test_the_models_file_knows_what_it_was_trained_on(self, tmp_path, described, model, refused, caplog):
        """Not ``splits.json``, which may be of another run: it neither hides a leak nor makes one up."""
        assert splits_to_evaluate({"test": described["test"]}, tmp_path, tmp_path / "again") == described
        others = {name: described["test"] for name in described} | {"test": described["train_normal"]}
        (tmp_path / "splits.json").write_text(json.dumps(others))
        for name, words in (("train_normal", "trained on"), ("valid_unlabeled", "validated with")):
            with refused(f"4 of 4 test images were {words}", tmp_path, "split_file"):
                splits_to_evaluate({"test": described[name]}, tmp_path, tmp_path / "other")
        assert not (tmp_path / "other").exists()
        found = splits_to_evaluate({"test": described["test"]}, tmp_path, tmp_path / "other")
        assert found == {"test": described["test"]}
        assert "splits.json is not of the run that made the models" in caplog.text
        assert "older version" not in caplog.text

    def test_models_of_older_versions(self, tmp_path, described, model, refused, caplog):
        save_tensors({"settings": {}}, model)
        assert splits_to_evaluate({"test": described["test"]}, tmp_path, tmp_path / "again") == described
        assert "the models of" in caplog.text
        assert "are of an older version: splits.json says" in caplog.text
        with refused("4 of 4 test images were validated with"):
            splits_to_evaluate({"test": described["valid_normal"]}, tmp_path, tmp_path / "other")

    def test_no_run(self, tmp_path, described, refused):
        with refused(tmp_path / "no" / "splits.json", "training run"):
            splits_to_evaluate(described, tmp_path / "no", tmp_path)
        (tmp_path / "splits.json").write_text("{")
        with refused(tmp_path / "splits.json", "broken"):
            splits_to_evaluate(described, tmp_path, tmp_path / "again")


def test_what_names_patients_and_what_that_cannot_know(splits, audit, caplog):
    """Ids that differ in zeros only count as two patients, and each volume as one: that is said."""
    known = [("01", "Subject"), ("1", "Subject"), ("a.nii", None), ("p7", None)]
    for i, (patient, column) in enumerate(known):
        splits["train_normal"][i] |= {"patient": patient} | ({"patient_column": column} if column else {})
    with caplog.at_level(logging.INFO):
        found = audit()
    assert found["patients_by"] == {
        "the column Subject": 2, "the volume (each counts as a patient)": 1, "the dataset's own table or list": 1
    }  # fmt: skip
    for part in ("01 and 1 count as two patients", "several volumes are of one patient", "two splits may share one"):
        assert sum(part in text for text in found["cannot_know"]) == 1
    assert "what names the patients: the column Subject: 2 images" in caplog.text


def test_patients_that_nobody_knows_are_not_said_to_be_apart(splits, audit, caplog):
    with caplog.at_level(logging.INFO):
        assert audit()["patients_by"] == {}
    assert "no duplicates or near-duplicates between training" in caplog.text
    assert "shared patients" not in caplog.text
    splits["test"][0]["patient"] = "p"
    with caplog.at_level(logging.INFO):
        audit()
    assert "near-duplicates or shared patients between training" in caplog.text
