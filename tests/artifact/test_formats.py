"""An artifact of any format gives what the checkpoint gives, for what a reader reads."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import monai_sagan
from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.graph import ScoringGraph
from monai_sagan.artifact.verify import verify_artifact
from monai_sagan.data.cache import load_image
from monai_sagan.engines.inference import infer
from monai_sagan.metrics import conformal_p_values
from monai_sagan.models.facts import FORMATS, read_facts, seal
from monai_sagan.models.trained import load_trained, read_settings
from monai_sagan.predict import predict
from monai_sagan.transforms.functional import anomaly_score

SIZES = [(64, 64), (70, 101), (41, 33), (64, 96), (90, 70), (1, 3)]


def draw_images(channels, folder):
    """Smooth images of several sizes, 8 and 16 bits, as arrays (C, H, W), and as files."""
    draw = np.random.default_rng(5)
    for number, (height, width) in enumerate(SIZES + SIZES[:3]):
        wide = channels == 1 and number >= len(SIZES)
        coarse = draw.integers(0, 256, (4, 4, channels), np.uint8).squeeze()
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(picture).astype(np.uint16) * 15 + 7 if wide else np.asarray(picture)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        yield (pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)), 16 if wide else 8, path


def check_same(run, trained, folder, tolerance):
    """Compare all outputs, the reader and the cache included, and return the scores."""
    scores, expected = [], []
    for image, bits, path in draw_images(trained.settings.in_channels, folder):
        outputs = run(image[None], bits)
        seen = load_image(path, trained.settings.decoding())[None]
        assert np.array_equal(outputs["image"], seen)
        _, (maps, _, restored) = next(trained.batches(torch.tensor(seen)))
        assert outputs["restored"].shape == seen.shape
        assert np.abs(outputs["restored"] - restored.numpy()).max() < 100 * tolerance
        assert np.abs(outputs["anomaly_map"] - maps.numpy()).max() < 10 * tolerance
        p_value = conformal_p_values(trained.valid_normal_scores.numpy(), anomaly_score(maps).numpy())
        assert outputs["p_value"] == pytest.approx(p_value)
        scores.append(float(outputs["score"][0]))
        expected.append(float(anomaly_score(maps)))
    assert np.abs(np.array(scores) - expected).max() < tolerance
    assert np.array_equal(np.argsort(scores), np.argsort(expected))
    assert np.ptp(expected) > 100 * tolerance


@pytest.mark.parametrize("name", ["grey", "color", "plain", "official"])
def test_graph(models, tmp_path, name):
    trained = models(name).trained
    graph = ScoringGraph.of(trained)

    @torch.inference_mode()
    def run(image, bits):
        outputs = graph(torch.from_numpy(image.astype(np.int32)), torch.tensor(bits))
        names = ("image", "restored", "anomaly_map", "score", "p_value")
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    check_same(run, trained, tmp_path, 1e-6)


# torch_export takes long; that of the grey model is the first step of its ONNX export.
@pytest.mark.parametrize(
    ("name", "format"),
    [("color", name) for name in FORMATS] + [("grey", name) for name in FORMATS if name != "torch_export"],
)
def test_every_format(models, exported, tmp_path, name, format):
    artifact = open_artifact(exported(name, format))
    assert artifact.format == format
    check_same(artifact.run, models(name).trained, tmp_path, 1e-5)

    draw = np.random.default_rng(0)
    images = draw.integers(0, 4096, (3, models(name).trained.settings.in_channels, 77, 90))
    together = artifact.run(images, 16)
    assert together["image"].dtype == np.uint8
    for key in ("restored", "anomaly_map", "score", "p_value"):
        assert together[key].dtype == np.float32
        alone = np.concatenate([artifact.run(image[None], 16)[key] for image in images])
        assert np.allclose(together[key], alone, atol=1e-5)
    if name == "grey":
        assert artifact.run(images[0, 0], 16)["score"] == pytest.approx(together["score"][:1], abs=1e-6)
    path = exported(name, format) / FORMATS[format]
    assert str(Path(monai_sagan.__file__).parent).encode() not in path.read_bytes()


def test_every_format_judges_the_validation_normals_alike(models, exported, tmp_path):
    """Their scores meet the thresholds to the last digit or not: no flag and no p-value may depend on it."""
    trained = models("color").trained
    valid = np.random.default_rng(1).integers(0, 256, (24, 3, 64, 96), np.uint8)[:20]  # as the model's
    (tmp_path / "images").mkdir()
    for number, image in enumerate(valid):
        Image.fromarray(np.moveaxis(image, 0, -1)).save(tmp_path / "images" / f"{number:02d}.png")
    scores = trained.valid_normal_scores.numpy()
    p_values = [f"{value:.6f}" for value in conformal_p_values(scores, scores)]
    artifacts = {format: exported("color", format) for format in FORMATS}
    artifacts["an earlier version"] = shutil.copytree(artifacts["safetensors"], tmp_path / "old")
    facts = read_facts(tmp_path / "old")
    facts["operating_points"][0]["threshold"] = float(scores.max())  # the score itself
    (tmp_path / "old" / "artifact.json").write_text(seal(facts))
    for format, artifact in artifacts.items():
        predict(artifact, tmp_path / "images", tmp_path / format, overlays="none", jobs=1)
        with (tmp_path / format / "scores.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["p_value"] for row in rows] == p_values, format
        assert [row["flag"] for row in rows] == ["0"] * 20, format  # 20 normals: the highest is at the threshold


@pytest.mark.parametrize("format", FORMATS)
def test_verify(exported, format):
    table = verify_artifact(exported("color", format))
    assert "all 16 scores within 1e-05" in table
    assert all(name in table for name in (format, "self_test.npz", "LICENSE", FORMATS[format]))


def test_an_even_image_is_black_and_values_out_of_range_are_clipped(exported):
    artifact = open_artifact(exported("grey", "onnx"))
    assert not artifact.run(np.full((5, 9), 1000), 16)["image"].any()
    seen = artifact.run(np.array([[-5, 300], [-5, 300]]).repeat(32, 0).repeat(32, 1), 8)["image"]
    assert set(seen[0, 0, :, [0, -1]].ravel()) == {0, 255}


@pytest.mark.parametrize(
    ("image", "bits", "parts"),
    [
        (np.zeros((1, 2, 64, 64), int), 8, ["(1, 2, 64, 64)", "(batch, 1, height, width)"]),
        (np.zeros((1, 64, 64), int), 8, ["(1, 64, 64)"]),
        (np.zeros((0, 64), int), 8, ["(0, 64)"]),
        (np.zeros((64, 64)), 8, ["float64"]),
        (np.zeros((64, 64), int), 12, ["bits is 12"]),
        ([[0, 1]], 8, ["are a list", "NumPy array"]),
        (torch.zeros(64, 64, dtype=torch.int32), 8, ["are a Tensor"]),
        (np.full((64, 64), 2**31), 16, ["from 2147483648 to 2147483648", "takes -2147483648 to 2147483647"]),
        (np.full((64, 64), 2**63, np.uint64), 16, ["9223372036854775808"]),
        (np.full((64, 64), -(2**31) - 1), 8, ["-2147483649"]),
    ],
)
def test_refused_images(exported, refused, image, bits, parts):
    with refused(*parts):
        open_artifact(exported("grey", "onnx")).run(image, bits)


def test_safetensors_stand_for_a_model_file(models, exported, tmp_path):
    folder, trained = exported("grey", "safetensors"), models("grey").trained
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), np.uint8))
    for path in (folder, folder / "model.safetensors"):
        loaded = load_trained(path)
        assert loaded.settings == read_settings(path) == trained.settings
        assert (loaded.scale, loaded.pixel_threshold, loaded.iteration) == (trained.scale, trained.pixel_threshold, 7)
        assert torch.equal(loaded.valid_normal_scores, trained.valid_normal_scores)
        assert torch.equal(loaded.training_range["mean_image"], trained.training_range["mean_image"])
        assert loaded.training_range["likeness"] == trained.training_range["likeness"]
        assert torch.equal(loaded.score(pixels)[0], trained.score(pixels)[0])
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels[0, 0].numpy()).save(tmp_path / "images" / "a.png")
    rows = infer(folder, tmp_path / "images", tmp_path / "out", overlays="none").read_text().splitlines()
    assert f"{float(trained.score(pixels[:1])[0]):.5f}"[:6] in rows[1]


def test_onnx_runs_without_torch_and_monai(exported):
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'monai', 'ignite', 'scipy', 'sklearn'))\n"
        "import numpy; from monai_sagan.artifact import open_artifact\n"
        "print(open_artifact(sys.argv[1]).run(numpy.arange(5000).reshape(50, 100), 16)['score'][0])"
    )
    command = [sys.executable, "-c", code, str(exported("grey", "onnx"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    here = open_artifact(exported("grey", "safetensors")).run(np.arange(5000).reshape(50, 100), 16)["score"][0]
    assert float(done.stdout) == pytest.approx(here, abs=1e-5)
