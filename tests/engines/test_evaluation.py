"""What an evaluation writes and returns."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sagan.baselines import baseline_scores
from monai_sagan.data.cache import ImageCache
from monai_sagan.engines.evaluation import evaluate
from monai_sagan.engines.model_metrics import check_finite
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.metrics import conformal_p_values, image_metrics, operating_points
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import load_trained

GREY = resolve_settings("paper").decoding()


@pytest.fixture
def splits(tmp_path):
    """Ten grey test images of several brightnesses, 4 of them abnormal, and some training images."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()

    def item(i, label, **more):
        path = tmp_path / "images" / f"{i}.png"
        Image.fromarray((rng.random((64, 64)) * 20 * (i % 7 + 1)).astype(np.uint8)).save(path)
        return {"image": str(path), "label": label, "size": [64, 64]} | more

    return {
        "train_normal": [item(100 + i, 0) for i in range(4)],
        "train_unlabeled": [item(200 + i, None) for i in range(3)],
        "test": [item(i + 2, int(i % 3 == 0)) for i in range(10)],
    }


@pytest.fixture
def models(tmp_path, save_model):
    save_model(tmp_path / "model.pt", seed=1)
    save_model(tmp_path / "model_last.pt", seed=2)
    return {"aucp": tmp_path / "model.pt", "last": str(tmp_path / "model_last.pt")}


@pytest.fixture
def run(tmp_path, splits, models):
    def evaluated(**changes):
        images = ImageCache(splits, GREY, tmp_path / "cache")
        arguments = {"models": models, "splits": splits, "images": images, "batch_size": 4}
        return evaluate(**arguments | {"output_dir": tmp_path / "out"} | changes)

    return evaluated


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_what_is_written(tmp_path, splits, models, run):
    metrics = run()
    header, *rows = table(tmp_path / "out" / "scores.csv")
    trivial = ("mean_intensity", "pca_reconstruction", "nearest_neighbors", "linear_pu")
    others = [f"score_{name}" for name in ("last", *trivial)]
    assert header == ["image", "label", "score", "p_value", "warning", *others]
    assert [row[:2] for row in rows] == [[item["image"], str(item["label"])] for item in splits["test"]]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(row[0])))[None] for row in rows])
    for column, path in ((2, models["aucp"]), (5, models["last"])):
        wanted = Scorer(load_trained(path).network, (64, 64)).score(pixels)
        np.testing.assert_allclose([float(row[column]) for row in rows], wanted, atol=1e-6)

    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert metrics.keys() == {
        *("aucp", "last", "baselines", "n_normal", "n_abnormal", "warnings", "seconds", "seconds_of_networks"),
        *("precision", "versions", "anomaly_map", "method"),
    }
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (6, 4)
    assert metrics["seconds"] >= metrics["seconds_of_networks"] >= 0
    assert metrics["last"]["iteration"] == 7
    scale = load_trained(models["aucp"]).scale
    how = {"shows": "|image - restored| / 2", "passes": 1, "smoothing": "none", "sigma": None}
    assert metrics["anomaly_map"] == how | {"top_of_scale": scale}
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["heatmaps", "metrics.json", "report.html", "scores.csv"]
    assert len(list((tmp_path / "out" / "heatmaps").glob("*.png"))) == 10


def with_numbers(path, **numbers):
    save_tensors(load_tensors(path) | numbers, path)


@pytest.mark.parametrize(
    ("aucp", "error", "says"),
    [
        (0.45, 0.09, "AUCp 0.45 (standard error 0.09) at the chosen checkpoint is within its noise of 0.5"),
        (0.62, 0.07, "AUCp 0.62 (standard error 0.07) at the chosen checkpoint is within its noise of 0.5"),
        (0.30, 0.05, "AUCp 0.30 (standard error 0.05) at the chosen checkpoint is below 0.5"),
        (0.62, 0.05, None),
    ],
)
def test_a_choice_that_was_chance_is_reported(tmp_path, models, run, caplog, aucp, error, says):
    with_numbers(models["aucp"], aucp=aucp, aucp_se=error)
    with_numbers(models["last"], aucp=0.5, aucp_se=0.1)  # not chosen by it
    metrics = run()
    assert (metrics["aucp"]["aucp"], metrics["aucp"]["aucp_se"]) == (aucp, error)
    found = [warning for warning in metrics["warnings"] if warning.startswith("AUCp")]
    assert found == ([f"{says}: the choice between checkpoints is chance"] if says else [])
    page = (tmp_path / "out" / "report.html").read_text()
    for text in found:
        assert text in page
        assert text in caplog.text


def test_metrics_are_those_of_the_scores(tmp_path, splits, models, run):
    metrics = run()
    labels = [item["label"] for item in splits["test"]]
    images = ImageCache(splits, GREY, tmp_path / "cache")
    pixels = images.pixels(splits["test"])
    for name, path in models.items():
        trained = load_trained(path)
        scores, _ = trained.score(pixels, 4)
        wanted = {"iteration": 7, "aucp": 0.5} | image_metrics(scores, labels)
        wanted["operating_points"] = operating_points(trained.valid_normal_scores, scores, labels)
        assert metrics[name] == wanted
    rows = table(tmp_path / "out" / "scores.csv")[1:]
    first = load_trained(models["aucp"])
    p_values = conformal_p_values(first.valid_normal_scores, first.score(pixels, 4)[0])
    np.testing.assert_allclose([float(row[3]) for row in rows], p_values, atol=1e-6)
    parts = [images.pixels(splits[name]) for name in ("train_normal", "train_unlabeled")]
    for name, values in baseline_scores(*parts, pixels).items():
        wanted = image_metrics(values, labels)
        assert {key: metrics["baselines"][name][key] for key in ("auc", "ap")} == {
            key: pytest.approx(wanted[key]) for key in ("auc", "ap")
        }


def test_again_is_the_same(tmp_path, run):
    first = run()
    files = ("scores.csv", "heatmaps/gallery/gallery.json")
    content = [(tmp_path / "out" / name).read_bytes() for name in files]
    (tmp_path / "out" / "heatmaps" / "stale.png").touch()
    second = run()
    seconds = {"seconds", "seconds_of_networks"}
    assert {k: first[k] for k in first.keys() - seconds} == {k: second[k] for k in second.keys() - seconds}
    assert [(tmp_path / "out" / name).read_bytes() for name in files] == content
    assert not (tmp_path / "out" / "heatmaps" / "stale.png").exists()


def test_boxes_and_masks_and_groups(tmp_path, splits, run):
    assert "localization" not in run()["aucp"]
    for item in splits["test"]:
        item |= {"boxes": [[8.0, 8.0, 16.0, 16.0]] * item["label"], "view": "AP" if item["label"] else "PA"}
    metrics = run()
    for name in ("aucp", "last"):
        found = metrics[name]["localization"]
        assert (found["truth"], found["n_images"], found["n_regions"]) == ("boxes", 10, 4)
        assert found["threshold"] == load_trained(tmp_path / "model.pt").pixel_threshold or name == "last"
        assert metrics[name]["groups"]["view"]["AP"]["n_abnormal"] == 4
    # four abnormal images are too few to say that the view alone tells, four validation normals for a threshold
    assert [warning.split(" takes ")[0] for warning in metrics["warnings"]] == [
        *("a specificity of 0.95", "a specificity of 0.9")
    ]


def test_warnings_of_groups(splits, run):
    splits["test"] = [item | {"site": "AB"[item["label"]]} for item in splits["test"] * 3]
    assert any(warning.startswith("site alone separates normal from abnormal") for warning in run()["warnings"])


def test_normal_images_need_no_mark_to_count(splits, run):
    for item in splits["test"]:
        if item["label"]:
            item["boxes"] = [[8.0, 8.0, 16.0, 16.0]]
    found = run()["aucp"]["localization"]
    assert (found["n_images"], found["n_abnormal"]) == (10, 4)


def test_names_that_are_no_text(tmp_path, splits, run):
    item = splits["test"][0]
    odd = os.fsdecode(os.path.join(os.fsencode(os.path.dirname(item["image"])), b"\xe9t\xe9.png"))
    os.rename(item["image"], odd)
    item["image"] = odd
    run()
    assert "\\udce9t" in (tmp_path / "out" / "scores.csv").read_text()


def test_a_broken_mask_costs_no_score(tmp_path, splits, run):
    (tmp_path / "mask.png").write_bytes(b"")
    splits["test"][0]["mask"] = str(tmp_path / "mask.png")
    metrics = run()
    assert "localization" not in metrics["aucp"]
    assert str(tmp_path / "mask.png") in metrics["warnings"][0]
    assert (tmp_path / "out" / "scores.csv").is_file()
    assert "ocalization was left out" in (tmp_path / "out" / "report.html").read_text()


def test_training_images_that_are_not_at_hand(tmp_path, splits, run):
    images = ImageCache({"test": splits["test"]}, GREY, tmp_path / "cache")
    assert "baselines" not in run(images=images)
    assert "baselines" not in run(splits={"test": splits["test"]})


def test_one_class_has_no_auc(tmp_path, splits, run):
    splits["test"] = [item for item in splits["test"] if item["label"] == 0]
    metrics = run()
    assert (metrics["last"]["auc"], metrics["last"]["ap"]) == (None, None)
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (6, 0)
    assert '"auc": null' in (tmp_path / "out" / "metrics.json").read_text()


def test_unknown_labels(tmp_path, splits, run):
    splits["test"][0]["label"] = splits["test"][1]["label"] = None
    metrics = run()
    rows = table(tmp_path / "out" / "scores.csv")[1:]
    assert [row[1] for row in rows[:3]] == ["", "", "0"]
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (5, 3)
    for item in splits["test"]:
        item["label"] = None
    assert run()["aucp"]["auc"] is None
    assert "p_value" in table(tmp_path / "out" / "scores.csv")[0]


def test_no_test_images(tmp_path, splits, run, refused):
    with refused("split test is empty", "inference.json"):
        run(splits=splits | {"test": []})
    assert not (tmp_path / "out").exists()


def test_models_of_different_runs_are_not_evaluated_together(tmp_path, models, run, refused):
    def sign(path, seed=0, **settings):
        content = load_tensors(path)
        made = {"seed": seed, "splits": "abc", "training": torch.zeros(0), "validation": torch.zeros(0)}
        save_tensors(content | {"run": made, "settings": content["settings"] | settings}, path)

    sign(models["aucp"], max_iterations=2000)  # the run was made longer since
    for _ in range(2):
        run()
        sign(models["last"])
    sign(models["last"], seed=1)
    with refused(models["last"], "was made with seed 1, this run has 0", "another run"):
        run()
    sign(models["last"], lambda_gp=5.0)
    with refused(models["last"], "lambda_gp 5.0, this run has 10.0"):
        run()
    sign(models["last"])
    run(made_by={"seed": 0, "amp": True})
    with refused(models["aucp"], "splits abc, this run has xyz"):
        run(made_by={"seed": 0, "splits": "xyz"})


@pytest.mark.parametrize("size", [100, 5_000, 60_000])
def test_a_full_disk_leaves_the_earlier_results(tmp_path, run, small_files, refused, size):
    """The smallest limit stops the scores, the next ones a heat map and the report's page."""
    run()
    (tmp_path / "out" / "report.html").write_text("the page")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    with small_files(size), refused(tmp_path / "out", "too large"):
        run()
    changed = [path.name for path in files if before[path] != (path.read_bytes(), path.stat().st_mtime_ns)]
    assert "report.html" not in changed
    assert not changed or size == 60_000
    assert not list((tmp_path / "out").glob(".*"))


def test_missing_model(tmp_path, models, run, refused):
    with refused(tmp_path / "none.pt"):
        run(models=models | {"last": tmp_path / "none.pt"})


def test_a_broken_model_writes_nothing(tmp_path, models, run, refused):
    content = load_tensors(models["last"])
    content["model"]["to_image.weight"][0, 0, 0, 0] = float("nan")
    save_tensors(content, models["last"])
    with refused("10 scores are not finite"):
        run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", [{"in_channels": 3}, {"image_size": 128}, {"preparation": "display"}])
def test_models_of_other_images(tmp_path, models, run, save_model, refused, other):
    save_model(tmp_path / "other.pt", **other)
    with refused(tmp_path / "other.pt", "another kind"):
        run(models=models | {"last": tmp_path / "other.pt"})


def test_the_training_mask_adds_entries(tmp_path, models, run, save_model):
    save_model(tmp_path / "official.pt", "official", keep_prob=0.5)
    metrics = run(models={"aucp": tmp_path / "official.pt", "last": models["last"]})
    assert metrics.keys() >= {"aucp", "aucp_masked", "last"}
    assert "last_masked" not in metrics
    assert metrics["aucp_masked"].keys() == {"auc", "auc_ci95", "ap", "ap_ci95"}
    header, *rows = table(tmp_path / "out" / "scores.csv")
    assert header[:7] == ["image", "label", "score", "p_value", "warning", "score_aucp_masked", "score_last"]
    assert any(row[2] != row[5] for row in rows)
    first = (tmp_path / "out" / "scores.csv").read_bytes()
    torch.rand(7)
    run(models={"aucp": tmp_path / "official.pt", "last": models["last"]})
    assert (tmp_path / "out" / "scores.csv").read_bytes() == first  # the mask has a seed of its own


def test_a_model_chosen_on_the_test_is_marked_everywhere(tmp_path, models, run, caplog):
    caplog.set_level("INFO")
    metrics = run(models=models | {"oracle_test": models["last"]})
    assert metrics["oracle_test"]["no_result"] == "chosen by test labels: no result"
    assert metrics["oracle_test"]["auc"] == metrics["last"]["auc"]
    assert "no_result" not in metrics["aucp"] | metrics["last"]
    header, *_ = table(tmp_path / "out" / "scores.csv")
    assert [name for name in header if "oracle" in name] == ["score_oracle_test_no_result"]
    lines = [line for line in caplog.messages if "oracle_test" in line]
    assert [line.split(":")[0] for line in lines] == ["test, oracle_test (chosen by test labels"]
    assert "no result): AUC" in lines[0]
    assert "chosen on the test set; not a result" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers(value, refused):
    with refused("1 scores are not finite"):
        check_finite(torch.tensor([0.1, value]))


def test_test_images_unlike_the_training_images_are_warned_of(tmp_path, splits, models, run, caplog):
    assert not any("outside the training range" in warning for warning in run()["warnings"])
    for path in models.values():
        content = load_tensors(path)
        training_range = {"mean_brightness": [200.0, 210.0], "standard_deviation": [0.0, 99.0], "likeness": [-1.0, 1.0]}
        content |= {"typical": training_range | {"mean_image": torch.zeros(1, 64, 64, dtype=torch.uint8)}}
        save_tensors(content | {"valid_normal_scores": torch.zeros(9)}, path)  # every image is above them
    first, *others = run()["warnings"]
    counted = "10 of 10 images are outside the training range, 10 of them above the threshold, the first: "
    assert first.startswith(counted + splits["test"][0]["image"])
    assert first.endswith("is outside 200.0 to 210.0 of the training images")
    assert others
    assert first in caplog.messages
    header, *rows = table(tmp_path / "out" / "scores.csv")
    assert all("is outside 200.0 to 210.0" in row[header.index("warning")] for row in rows)
    gallery = json.loads((tmp_path / "out" / "heatmaps" / "gallery" / "gallery.json").read_text())
    assert all("is outside 200.0 to 210.0" in case["warning"] for case in gallery)
