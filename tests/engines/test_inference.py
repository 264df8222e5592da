"""The parts of ``inference.json`` that use torch; the rules of scoring a folder are in tests/predict."""

from __future__ import annotations

import csv
import json
import logging

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.transforms import FlattenSubKeysd
from PIL import Image

from monai_sagan.data.batches import to_unit_range
from monai_sagan.data.cache import load_image
from monai_sagan.engines.inference import AnomalyInferer, FolderBatches, KeepScores, infer, score_folder
from monai_sagan.metrics import conformal_p_values
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import load_trained


@pytest.fixture
def model(tmp_path, save_model):
    save_model(tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def folder(tmp_path):
    """Seven images of noise."""
    folder = tmp_path / "hospital"
    folder.mkdir()
    for i in range(7):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64), np.uint8)).save(folder / f"{i}.png")
    return folder


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scores(path):
    return [float(row["score"]) for row in table(path)]


def score(model, folder, output, **options):
    return infer(model, folder, output, **{"jobs": 1, "overlays": "none"} | options)


def test_scores_and_p_values_are_the_models(tmp_path, folder, model, caplog):
    caplog.set_level(logging.INFO)
    path = score(str(model), str(folder), tmp_path / "out", batch_size=3)
    assert path == tmp_path / "out" / "scores.csv"
    how = load_trained(model).settings.decoding()
    pixels = torch.stack([torch.from_numpy(load_image(folder / f"{i}.png", how).copy()) for i in range(7)])
    wanted = Scorer(load_trained(model).network, (64, 64)).score(pixels)
    np.testing.assert_allclose(scores(path), wanted, atol=1e-6)
    p_values = conformal_p_values(load_trained(model).valid_normal_scores, wanted)
    np.testing.assert_allclose([float(row["p_value"]) for row in table(path)], p_values, atol=1e-6)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["kind"], config["model"]) == ("prediction", str(model))
    assert "7 images scored" in (tmp_path / "out" / "log.txt").read_text()


def test_bfloat16_gives_nearly_the_same_scores_apart(tmp_path, folder, model, refused):
    wide, narrow = (scores(score(model, folder, tmp_path / str(amp), amp=amp)) for amp in (False, True))
    assert narrow != wide
    np.testing.assert_allclose(narrow, wide, rtol=0.01)
    with refused("another model"):  # one table holds scores of one precision
        score(model, folder, tmp_path / "False", amp=True)


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


def test_an_evaluator_that_is_stopped_leaves_complete_tables(tmp_path, folder, model):
    """Batches of 1, 2 and 2 images; the last is not kept."""
    trained = load_trained(model)
    images = FolderBatches(folder, trained, model, tmp_path / "out", batch_size=2, overlays="none", jobs=1)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=images,
        network=trained.network,
        inferer=AnomalyInferer(trained.settings),
        postprocessing=FlattenSubKeysd("pred"),
        val_handlers=[KeepScores(images)],
        decollate=False,
    )

    def stop(engine):
        raise KeyboardInterrupt

    evaluator.add_event_handler(Events.ITERATION_STARTED(once=3), stop)
    with pytest.raises(KeyboardInterrupt):
        score_folder(evaluator, images)
    assert [row["image"] for row in table(tmp_path / "out" / "scores.csv")] == [
        str(folder / f"{i}.png") for i in range(3)
    ]
    assert (tmp_path / "out" / "skipped.csv").is_file()
    infer(model, folder, tmp_path / "again", overlays="none", jobs=1)
    np.testing.assert_allclose(
        scores(tmp_path / "out" / "scores.csv"), scores(tmp_path / "again" / "scores.csv")[:3], atol=1e-6
    )


def test_color_models(tmp_path, folder, save_model):
    save_model(tmp_path / "color.pt", in_channels=3)
    assert len(table(score(tmp_path / "color.pt", folder, tmp_path / "out"))) == 7


def test_missing_model(tmp_path, folder, refused):
    with refused(tmp_path / "none.pt"):
        score(tmp_path / "none.pt", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
