"""An artifact is written whole or not at all, and anything changed in it is found."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_sagan.artifact import open_artifact
from monai_sagan.artifact.export import export_artifact
from monai_sagan.artifact.self_test import read_self_test, write_self_test
from monai_sagan.cli import main
from monai_sagan.data.training_range import range_deviations
from monai_sagan.metrics import normal_threshold
from monai_sagan.models.facts import digest, read_facts, seal
from monai_sagan.models.trained import load_trained


def reseal(folder, **changes):
    """Write the facts again with the files' present hashes, as somebody who means harm can."""
    facts = json.loads((folder / "artifact.json").read_text())
    facts["files"] = {name: digest(folder / name) for name in facts["files"]}
    (folder / "artifact.json").write_text(seal(facts | changes))


def test_facts(models, exported):
    folder, trained = exported("grey", "safetensors"), models("grey").trained
    facts = open_artifact(folder).facts
    assert sorted(path.name for path in folder.iterdir()) == sorted([*facts["files"], "artifact.json"])
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert facts["license"] == "Apache-2.0"
    assert facts["name"] == "grey"
    assert "Not a medical device" in facts["intended_use"]
    model = facts["model"]
    assert (model["scale"], model["pixel_threshold"]) == (trained.scale, trained.pixel_threshold)
    assert (model["image_size"], model["in_channels"], model["iteration"]) == ([64, 64], 1, 7)
    assert model["n_valid_normal"] == len(model["valid_normal_scores"]) == 20
    assert [(point["specificity_wanted"], point["threshold"]) for point in facts["operating_points"]] == [
        (share, normal_threshold(trained.valid_normal_scores.numpy(), share)) for share in (0.95, 0.9)
    ]
    assert range_deviations(np.zeros((1, 64, 64), np.uint8), open_artifact(folder).training_range)


def test_self_test_has_no_trained_image_and_is_varied(exported):
    cases = read_self_test(exported("grey", "safetensors") / "self_test.npz")
    assert len(cases) == 16
    assert {case.bits for case in cases} == {8, 16}
    sizes = {case.image.shape[1:] for case in cases}
    assert len(sizes) >= 5
    assert min(min(size) for size in sizes) < 64 < max(max(size) for size in sizes)
    assert any(size[0] % 2 and size[1] % 2 for size in sizes)
    assert len({round(case.score, 6) for case in cases}) == 16


def test_model_files_without_typical_are_exported(tmp_path, save_model):
    save_model(tmp_path / "old.pt", num_res_blocks=0)
    artifact = open_artifact(export_artifact(tmp_path / "old.pt", tmp_path / "artifact"))
    assert artifact.training_range is None
    assert artifact.facts["operating_points"][0]["threshold"] is None  # 4 validation normals are too few


def test_which_name_and_license(tmp_path, save_model):
    for seed, name in enumerate(("model", "model_last")):
        save_model(tmp_path / "run" / f"{name}.pt", seed=seed, num_res_blocks=0)
    (tmp_path / "terms.txt").write_text("CC BY 4.0")
    folder = export_artifact(
        tmp_path / "run", tmp_path / "a", which="last", name="b", license_file=tmp_path / "terms.txt"
    )
    weights, last = load_trained(folder).network.state_dict(), load_trained(tmp_path / "run" / "model_last.pt")
    assert all(torch.equal(value, weights[name]) for name, value in last.network.state_dict().items())
    facts = read_facts(folder)
    assert (facts["name"], facts["license"], (folder / "LICENSE").read_text()) == ("b", "LICENSE", "CC BY 4.0")


def test_an_artifact_becomes_one_of_another_format(exported, tmp_path):
    first = open_artifact(exported("grey", "safetensors"))
    second = open_artifact(export_artifact(first.folder, tmp_path / "other", "torchscript"))
    image = np.random.default_rng(0).integers(0, 256, (2, 1, 80, 70))
    assert np.allclose(first.run(image)["score"], second.run(image)["score"], atol=1e-6)
    assert first.facts["model"] == second.facts["model"]


def test_commands(models, tmp_path, capsys):
    folder = tmp_path / "artifact"
    assert main(["export", str(models("grey").folder), str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder)
    assert read_facts(folder)["name"] == models("grey").folder.name
    assert main(["verify", str(folder)]) == 0
    assert "all 16 scores" in capsys.readouterr().out
    (folder / "LICENSE").write_text("mine")
    assert main(["verify", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["model.safetensors", "self_test.npz", "LICENSE", "artifact.json"])
def test_any_flipped_byte_is_found(artifact, refused, name):
    content = (artifact / name).read_bytes()
    count = 250 if name == "artifact.json" else 4
    for place in np.linspace(0, len(content) - 1, count).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1 << int(place) % 8
        (artifact / name).write_bytes(changed)
        with refused(artifact):
            open_artifact(artifact)
        (artifact / name).write_bytes(content[:place])
        with refused(artifact):
            open_artifact(artifact)
    (artifact / name).write_bytes(content)
    open_artifact(artifact)
    (artifact / name).unlink()
    with refused(artifact, name):
        open_artifact(artifact)


def test_the_same_facts_in_other_words_are_found(artifact, refused):
    text = (artifact / "artifact.json").read_text()
    for other in (text + " ", text.replace('": ', '" : ', 1), text.replace('"name"', '"name": "x",\n  "name"')):
        (artifact / "artifact.json").write_text(other)
        with refused("artifact.json", "SHA-256"):
            open_artifact(artifact)


def test_a_file_without_a_hash_is_not_trusted(artifact, refused):
    facts = json.loads((artifact / "artifact.json").read_text())
    del facts["files"]["model.safetensors"]
    (artifact / "artifact.json").write_text(seal(facts))
    with refused("artifact.json", "no SHA-256"):
        open_artifact(artifact)


def test_newer_version(artifact, refused):
    reseal(artifact, format_version=2)
    for use in (open_artifact, load_trained):
        with refused(artifact, "format version 2", "install a newer"):
            use(artifact)
    reseal(artifact, format_version="1")
    with refused("artifact.json"):
        open_artifact(artifact)
    reseal(artifact, format_version=0)
    with refused(artifact, "format version 0", "which no monai-sagan writes"):
        open_artifact(artifact)


def test_facts_that_lack_something(artifact, refused):
    """Whoever seals them again can write anything into them."""
    facts = json.loads((artifact / "artifact.json").read_text())
    model = facts["model"]
    for name, change in {
        "model.iteration": {"model": {}},
        "model.settings.in_channels": {"model": model | {"settings": {}}},
        "model.settings.image_size": {"model": model | {"settings": model["settings"] | {"image_size": [64]}}},
        "model.image_size": {"model": model | {"image_size": "64"}},
        "model.valid_normal_scores": {"model": model | {"valid_normal_scores": ["x"]}},
        "name": {"name": None},
        "typical": {"typical": {}},
        "operating_points": {"operating_points": [{}]},
    }.items():
        reseal(artifact, **facts | change)
        for use in (open_artifact, load_trained):
            with refused(artifact / "artifact.json", f"has no usable {name}"):
                use(artifact)
    reseal(artifact, **facts | {"operating_points": [1]})
    with refused("operating_points"):
        open_artifact(artifact)


def test_what_a_run_goes_on_from_is_no_model(tmp_path, save_model, refused):
    save_model(tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save({"iteration": 1, "settings": content["settings"], "states": {}}, tmp_path / "checkpoint.pt")
    with refused("checkpoint.pt", "it is a checkpoint, for resuming a run", "give model.pt") as caught:
        export_artifact(tmp_path / "checkpoint.pt", tmp_path / "artifact")
    assert len(str(caught.value)) < 300


def test_no_artifact(tmp_path, refused):
    for use in (open_artifact, load_trained):
        with refused(tmp_path, "not an artifact"):
            use(tmp_path)
    with refused("nowhere", "not an artifact"):
        open_artifact(tmp_path / "nowhere")


def test_weights_of_another_shape(artifact, refused):
    from safetensors.torch import load_file, save_file

    weights = load_file(artifact / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: torch.zeros(3, 5)}, artifact / "model.safetensors")
    with refused("model.safetensors", "SHA-256"):
        open_artifact(artifact)
    reseal(artifact)
    for use in (open_artifact, load_trained):
        with refused(artifact, name, "(3, 5)"):
            use(artifact)
    (artifact / "model.safetensors").write_bytes(b"\xff" * 40)
    reseal(artifact)
    with refused(artifact, "no weights"):
        open_artifact(artifact)


@pytest.mark.parametrize("format", ["torchscript", "onnx", "torch_export"])
def test_a_model_file_of_another_kind(artifact, refused, format):
    from monai_sagan.models.facts import FORMATS

    (artifact / "model.safetensors").rename(artifact / FORMATS[format])
    files = {name: digest(artifact / name) for name in (FORMATS[format], "self_test.npz", "LICENSE")}
    facts = json.loads((artifact / "artifact.json").read_text()) | {"format": format, "files": files}
    (artifact / "artifact.json").write_text(seal(facts))
    with refused(FORMATS[format], "cannot be loaded"):
        open_artifact(artifact)
    with refused(artifact, format, "safetensors is needed"):
        load_trained(artifact)


def test_other_scores_and_another_order(artifact, refused):
    cases = read_self_test(artifact / "self_test.npz")
    write_self_test([cases[0]._replace(score=cases[0].score + 3e-5), *cases[1:]], artifact / "self_test.npz")
    reseal(artifact)
    with refused(artifact, "image 1 of its self-test"):
        open_artifact(artifact)
    open_artifact(artifact, check=False)

    run = open_artifact(artifact, check=False).run
    write_self_test(
        [cases[0], cases[0]._replace(score=cases[0].score + 5e-6, image=cases[0].image)], artifact / "t.npz"
    )
    from monai_sagan.artifact.self_test import check_self_test

    assert len(check_self_test(run, artifact / "t.npz")) == 2  # equal scores have no order
    write_self_test([cases[0]._replace(score=float("nan"))], artifact / "t.npz")
    with refused(artifact, "image 1"):
        check_self_test(run, artifact / "t.npz")


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_self_test_is_not_run(artifact, tmp_path, refused):
    content = dict(np.load(artifact / "self_test.npz"))
    content["bits"] = np.array([Harmful(tmp_path / "harm")], dtype=object)
    np.savez(artifact / "self_test.npz", **content)
    reseal(artifact)
    with refused("self_test.npz", "not a self-test"):
        open_artifact(artifact)
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(Harmful(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()  # it would have


def test_code_in_a_checkpoint_is_not_run(models, tmp_path, refused):
    content = torch.load(models("grey").file, weights_only=True)
    torch.save(content | {"extra": Harmful(tmp_path / "harm")}, tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Harmful(tmp_path / "harm"), 2))
    for path in (tmp_path / "model.pt", tmp_path / "plain.pt", tmp_path):
        with refused("holds code (posix.mkdir)", "nothing was executed"):
            export_artifact(path, tmp_path / "artifact")
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "artifact").exists()


def test_no_code_travels_as_pickle(exported):
    """The numbers of the formats that are read without pickle hold none."""
    assert not zipfile.is_zipfile(exported("grey", "safetensors") / "model.safetensors")
    with zipfile.ZipFile(exported("grey", "safetensors") / "self_test.npz") as content:
        assert all(name.endswith(".npy") for name in content.namelist())


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"format": "pickle"}, ["'pickle'", "safetensors, torchscript, onnx, torch_export"]),
        ({"which": "best"}, ["'best'", "aucp, last"]),
        ({"which": "last"}, ["model_last.pt", "output_dir"]),
        ({"license_file": "nowhere.txt"}, ["nowhere.txt"]),
    ],
)
def test_refused_options(models, tmp_path, refused, options, parts):
    with refused(*parts):
        export_artifact(models("grey").folder, tmp_path / "artifact", **options)
    assert list(tmp_path.iterdir()) == []


def test_refused_places(models, tmp_path, refused):
    (tmp_path / "run").mkdir()
    with refused(tmp_path / "run", "not a run's folder", "model.pt"):
        export_artifact(tmp_path / "run", tmp_path / "artifact")
    with refused("nowhere.pt", "no file"):
        export_artifact(tmp_path / "nowhere.pt", tmp_path / "artifact")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for place in ("full", "full/mine.txt"):
        with refused("full", "not empty"):
            export_artifact(models("grey").folder, tmp_path / place)
    (tmp_path / "empty").mkdir()
    open_artifact(export_artifact(models("grey").folder, tmp_path / "empty"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "run"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("format", "module"), [("onnx", "onnxscript"), ("onnx", "onnx"), ("safetensors", "safetensors")]
)
def test_missing_package_when_writing(models, tmp_path, refused, monkeypatch, format, module):
    monkeypatch.setitem(sys.modules, module, None)
    needed = "onnx onnxscript onnxruntime" if format == "onnx" else module
    with refused(module, f"pip install {needed}"):
        export_artifact(models("grey").folder, tmp_path / "artifact", format)
    assert not Path(tmp_path / "artifact").exists()


def test_missing_package_when_opening(exported, refused, monkeypatch):
    folder, weights = exported("grey", "onnx"), exported("grey", "safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused("onnxruntime", "not installed; pip install onnxruntime"):
        open_artifact(folder)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with refused("safetensors", "not installed; pip install safetensors"):
        open_artifact(weights)
