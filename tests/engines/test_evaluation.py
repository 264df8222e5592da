"""What an evaluation writes and returns."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_sagan.engines import evaluation
from monai_sagan.engines.evaluation import evaluate, image_metrics, versions, write_scores
from monai_sagan.engines.scoring import score
from monai_sagan.engines.trained import load_trained
from monai_sagan.files import load_tensors, save_tensors


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """The pictures themselves have tests of their own, and take time."""
    monkeypatch.setattr("monai_sagan.report.heatmaps._draw", lambda path, *rest: path.touch())


@pytest.fixture
def datalist(tmp_path):
    """Ten grey test images of several brightnesses, 4 of them abnormal, and two normal ones."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()

    def item(i, label):
        path = tmp_path / "images" / f"{i}.png"
        Image.fromarray((rng.random((64, 64)) * 20 * (i % 7 + 1)).astype(np.uint8)).save(path)
        return {"image": str(path), "label": label}

    return {"normal": [item(i, 0) for i in range(2)], "test": [item(i + 2, int(i % 3 == 0)) for i in range(10)]}


@pytest.fixture
def models(tmp_path, save_model):
    save_model(tmp_path / "model.pt", seed=1)
    save_model(tmp_path / "model_last.pt", seed=2)
    return {"aucp": tmp_path / "model.pt", "last": str(tmp_path / "model_last.pt")}


@pytest.fixture
def run(tmp_path, datalist, models):
    def evaluated(**changes):
        arguments = {"models": models, "datalist": datalist, "output_dir": tmp_path / "out", "batch_size": 4}
        return evaluate(**arguments | {"cache_dir": tmp_path / "cache"} | changes)

    return evaluated


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_what_is_written(tmp_path, datalist, models, run):
    metrics = run()
    header, *rows = table(tmp_path / "out" / "scores.csv")
    assert header == ["image", "label", "score", "score_last"]
    assert [row[:2] for row in rows] == [[item["image"], str(item["label"])] for item in datalist["test"]]
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(row[0])))[None] for row in rows])
    for column, path in ((2, models["aucp"]), (3, models["last"])):
        wanted = score(load_trained(path).network, pixels)
        np.testing.assert_allclose([float(row[column]) for row in rows], wanted, atol=1e-6)

    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert metrics.keys() == {"aucp", "last", "n_normal", "n_abnormal", "seconds", "versions"}
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (6, 4)
    assert metrics["seconds"] >= 0
    assert metrics["aucp"].keys() == {"iteration", "auc", "ap"}
    assert metrics["last"]["iteration"] == 7
    labels = [item["label"] for item in datalist["test"]]
    for name, column in (("aucp", 2), ("last", 3)):
        scores = [float(row[column]) for row in rows]
        assert metrics[name]["auc"] == pytest.approx(roc_auc_score(labels, scores))
        assert metrics[name]["ap"] == pytest.approx(average_precision_score(labels, scores))

    assert len(list((tmp_path / "out" / "heatmaps").iterdir())) == 10
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["heatmaps", "metrics.json", "scores.csv"]


def test_again_is_the_same(tmp_path, run):
    first = run()
    scores = (tmp_path / "out" / "scores.csv").read_bytes()
    (tmp_path / "out" / "heatmaps" / "stale.png").touch()
    second = run(batch_size=256)
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    assert (tmp_path / "out" / "scores.csv").read_bytes() == scores
    assert not (tmp_path / "out" / "heatmaps" / "stale.png").exists()


def test_one_class_has_no_auc(tmp_path, datalist, run):
    datalist["test"] = [item for item in datalist["test"] if item["label"] == 0]
    metrics = run()
    assert (metrics["last"]["auc"], metrics["last"]["ap"]) == (None, None)
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (6, 0)
    assert '"auc": null' in (tmp_path / "out" / "metrics.json").read_text()


def test_unknown_labels(tmp_path, datalist, run):
    datalist["test"][0]["label"] = datalist["test"][1]["label"] = None
    metrics = run()
    rows = table(tmp_path / "out" / "scores.csv")[1:]
    assert [row[1] for row in rows[:3]] == ["", "", "0"]
    known = [row for row in rows if row[1]]
    assert metrics["aucp"]["auc"] == pytest.approx(
        roc_auc_score([int(r[1]) for r in known], [float(r[2]) for r in known])
    )
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (5, 3)
    for item in datalist["test"]:
        item["label"] = None
    assert run()["aucp"]["auc"] is None


def test_no_test_images(tmp_path, datalist, run, refused):
    with refused("split test is empty", "inference.json"):
        run(datalist=datalist | {"test": []})
    assert not (tmp_path / "out").exists()


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


def test_models_of_different_images(tmp_path, models, run, save_model, refused):
    save_model(tmp_path / "color.pt", in_channels=3)
    with refused("different kinds"):
        run(models=models | {"last": tmp_path / "color.pt"})


def test_the_training_mask_adds_entries(tmp_path, models, run, save_model):
    save_model(tmp_path / "official.pt", "official", keep_prob=0.5)
    metrics = run(models={"aucp": tmp_path / "official.pt", "last": models["last"]})
    assert metrics.keys() >= {"aucp", "aucp_masked", "last"}
    assert "last_masked" not in metrics
    assert metrics["aucp_masked"].keys() == {"auc", "ap"}
    header, *rows = table(tmp_path / "out" / "scores.csv")
    assert header == ["image", "label", "score", "score_aucp_masked", "score_last"]
    assert any(row[2] != row[3] for row in rows)
    first = (tmp_path / "out" / "scores.csv").read_bytes()
    torch.rand(7)
    run(models={"aucp": tmp_path / "official.pt", "last": models["last"]})
    assert (tmp_path / "out" / "scores.csv").read_bytes() == first  # the mask has a seed of its own


def test_the_training_cache_is_used(tmp_path, datalist, run, monkeypatch):
    run()
    monkeypatch.setattr("monai_sagan.data.cache.read_image", lambda path: pytest.fail("decoded again"))
    run()


def test_mixed_images(datalist, run, refused):
    Image.new("L", (80, 64), 9).save(datalist["test"][3]["image"])
    with refused(datalist["test"][3]["image"], "80 x 64"):
        run()
    assert run(mixed_images=True)["n_normal"] == 6


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 0, 1], [1, 0, None, 1, 0, None], [1, 1, 1, 1, 1, 0]])
def test_metrics_are_scikit_learns(labels):
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.4, 0.4])
    known = [(label, value) for label, value in zip(labels, scores.tolist(), strict=True) if label is not None]
    truth, values = zip(*known, strict=True)
    wanted = {"auc": roc_auc_score(truth, values), "ap": average_precision_score(truth, values)}
    assert image_metrics(scores, labels) == pytest.approx(wanted)


@pytest.mark.parametrize("labels", [[], [0], [1, 1], [None, None], [0, None]])
def test_no_metrics_without_both_classes(labels):
    assert image_metrics(torch.rand(len(labels)), labels) == {"auc": None, "ap": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers(value, refused):
    with refused("1 scores are not finite"):
        image_metrics(torch.tensor([0.1, value]), [0, None])


def test_scores_of_odd_names(tmp_path):
    items = [{"image": 'a, "b".png', "label": None}, {"image": "ä\n.png", "label": 1}]
    write_scores(tmp_path / "scores.csv", items, {"x": torch.tensor([0.5, 1.0])}, "x")
    assert table(tmp_path / "scores.csv") == [
        ["image", "label", "score"],
        ['a, "b".png', "", "0.50000000"],
        ["ä\n.png", "1", "1.00000000"],
    ]


def test_versions():
    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found) == {
        "python",
        "monai-sagan",
        "torch",
        "monai",
        "pytorch-ignite",
        "numpy",
        "pillow",
        "scikit-learn",
    }
    assert evaluation.MASK_SEED == 0
