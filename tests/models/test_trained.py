"""A model file holds all that using the model needs, and is told apart from anything else."""

from __future__ import annotations

import pytest
import torch

from monai_sagan.data.batches import to_unit_range
from monai_sagan.data.datalist import SPLITS
from monai_sagan.data.digests import describe_run, seen_images, splits_digest
from monai_sagan.data.training_range import measure_training_range, range_deviations
from monai_sagan.engines.inference import AnomalyInferer
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.methods import resolve_settings
from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import describe_trained, load_trained, read_run
from monai_sagan.networks import SaganDiscriminator, SaganGenerator


@pytest.mark.parametrize("preset", ["paper", "official", "recommended"])
def test_round_trip(tmp_path, save_model, random_pixels, preset):
    network = save_model(tmp_path / "model.pt", preset).eval()
    trained = load_trained(str(tmp_path / "model.pt"))
    assert trained.settings == resolve_settings(preset, channels=4, num_res_blocks=1)
    assert trained.iteration == 7
    assert not trained.network.training
    image = to_unit_range(random_pixels(2))
    with torch.no_grad():
        assert torch.allclose(trained.network(image), network(image), atol=1e-4)  # other kernels compute it


def test_other_networks(tmp_path, save_model):
    settings = {"in_channels": 3, "grid": [4, 2], "anatomical_consistency": True, "gate_norm": "instance"}
    save_model(tmp_path / "model.pt", **settings)
    assert load_trained(tmp_path / "model.pt").settings == resolve_settings(
        "paper", channels=4, num_res_blocks=1, **settings
    )
    save_model(tmp_path / "plain.pt", anatomical_consistency=False, abnormal_region_restoration=False)
    assert load_trained(tmp_path / "plain.pt").network.rows == 1


def test_numbers_of_the_validation_normals(tmp_path, save_model, random_pixels):
    network = save_model(tmp_path / "model.pt")
    trained = load_trained(tmp_path / "model.pt")
    valid = random_pixels(4, seed=99)
    assert torch.allclose(trained.valid_normal_scores, Scorer(network, (64, 64)).score(valid), atol=1e-6)
    image = to_unit_range(valid)
    with torch.no_grad():
        values = ((image - network.eval()(image)).abs() / 2).flatten()
    assert (values <= trained.scale).float().mean().item() == pytest.approx(0.999, abs=1e-4)
    content = load_tensors(tmp_path / "model.pt")
    assert content["aucp"] == 0.5
    assert (values <= trained.pixel_threshold).float().mean().item() == pytest.approx(0.99, abs=1e-3)
    assert content.keys() == {
        *("model", "settings", "scale", "pixel_threshold", "valid_normal_scores", "iteration", "aucp")
    }


def test_scores_and_kept_maps(tmp_path, save_model, random_pixels):
    save_model(tmp_path / "model.pt")
    trained = load_trained(tmp_path / "model.pt")
    images = random_pixels(7)
    scores, maps = trained.score(images, batch_size=3, keep=[5, 0, 2])
    assert torch.allclose(scores, Scorer(trained.network, (64, 64)).score(images), atol=1e-6)
    assert maps.shape == (3, 1, 64, 64)
    assert torch.allclose(maps.mean((1, 2, 3)), scores[[0, 2, 5]], atol=1e-6)
    assert trained.score(images[:0])[0].shape == (0,)


def test_maps_are_made_as_the_settings_say(tmp_path, save_model, random_pixels):
    save_model(tmp_path / "plain.pt")
    save_model(tmp_path / "smooth.pt", map_passes=4, map_smoothing="gaussian", map_sigma=2.0)
    plain, smooth = (load_trained(tmp_path / f"{name}.pt") for name in ("plain", "smooth"))
    one, other = (trained.score(random_pixels(2), keep=[0])[1] for trained in (plain, smooth))
    assert other.std() < 0.5 * one.std()
    assert smooth.scale < plain.scale


def test_what_training_images_look_like(tmp_path, random_pixels):
    settings = resolve_settings("paper", channels=4, num_res_blocks=1)
    training_range = measure_training_range(random_pixels(9))
    content = describe_trained(SaganGenerator(**settings.generator()), settings, random_pixels(1), 1, training_range)
    save_tensors(content, tmp_path / "model.pt")
    loaded = load_trained(tmp_path / "model.pt").training_range
    assert torch.equal(loaded["mean_image"], torch.from_numpy(training_range["mean_image"]))
    assert loaded["likeness"] == training_range["likeness"]
    assert range_deviations(random_pixels(1)[0].numpy(), loaded) == []
    assert range_deviations(random_pixels(1)[0].numpy() // 2, loaded)


def test_which_run_made_a_model(tmp_path, save_model):
    save_model(tmp_path / "model.pt")
    assert load_trained(tmp_path / "model.pt").run is None  # of an older version
    assert read_run(tmp_path / "model.pt") == {}
    splits = {name: [{"digest": f"{i:024x}"}] for i, name in enumerate(SPLITS)}
    save_tensors(load_tensors(tmp_path / "model.pt") | {"run": describe_run(splits, seed=3)}, tmp_path / "model.pt")
    for run in (load_trained(tmp_path / "model.pt").run, read_run(tmp_path / "model.pt")):
        assert (run["seed"], run["splits"]) == (3, splits_digest(splits))
        assert seen_images(run, "validation") == {f"{2:024x}", f"{3:024x}"}


def test_older_model_files_do_not_say_what_training_images_look_like(tmp_path, save_model):
    save_model(tmp_path / "model.pt")
    assert load_trained(tmp_path / "model.pt").training_range is None


def test_description_does_not_follow_the_training(random_pixels):
    settings = resolve_settings("paper", channels=4, num_res_blocks=1)
    network = SaganGenerator(**settings.generator())
    content = describe_trained(network, settings, random_pixels(1), iteration=1)
    assert set(content["model"]) == set(network.state_dict())
    assert all(value.device.type == "cpu" for value in content["model"].values())


def test_a_network_of_other_settings_is_not_saved(random_pixels, refused):
    settings = resolve_settings("paper", channels=4, num_res_blocks=1)
    for values in ({"channels": 8}, {"num_res_blocks": 2}, {"grid": (3, 3)}):
        network = SaganGenerator(**settings.generator() | values)
        with refused("the network is not the one of its settings", "no model of it can be saved"):
            describe_trained(network, settings, random_pixels(1), iteration=1)


def test_missing_or_broken(tmp_path, save_model, refused):
    path = tmp_path / "model.pt"
    with refused(path, "no file"):
        load_trained(path)
    save_model(path)
    path.write_bytes(path.read_bytes()[:1000])
    with refused(path):
        load_trained(path)
    path.write_text("text")
    with refused(path):
        load_trained(path)


def changed(**changes):
    return lambda content: content | changes


CHANGES = {
    "nothing": lambda content: {},
    "a checkpoint": lambda content: {"iteration": 1, "settings": content["settings"], "states": {}},
    "no scale": lambda content: {name: value for name, value in content.items() if name != "scale"},
    "the critic": changed(model=SaganDiscriminator(channels=4).state_dict()),
    "other widths": lambda content: content | {"settings": content["settings"] | {"channels": 8}},
    "unknown setting": lambda content: content | {"settings": content["settings"] | {"depth": 3}},
    "wrong setting": lambda content: content | {"settings": content["settings"] | {"channels": -4}},
    "no settings": changed(settings=None),
    "a list of settings": changed(settings=[1, 2]),
    "no weights": changed(model=None),
    "one tensor": changed(model=torch.zeros(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_of_another_kind(tmp_path, save_model, change, refused):
    path = tmp_path / "model.pt"
    save_model(path)
    save_tensors(CHANGES[change](load_tensors(path)), path)
    with refused(path, "not a model that a SAGAN run wrote"):
        load_trained(path)


def test_weights_that_do_not_fit_are_named(tmp_path, save_model, refused):
    path = tmp_path / "model.pt"
    save_model(path)
    content = load_tensors(path)
    weights = content["model"]
    first, *rest = weights
    shape = tuple(weights[first].shape)
    for changed_weights, parts in (
        (weights | {first: torch.zeros(3, 5)}, (first, "(3, 5)", shape)),
        ({name: weights[name] for name in rest}, ("lack", first, shape)),
        (weights | {"extra.weight": torch.zeros(1)}, ("no room for extra.weight",)),
    ):
        save_tensors(content | {"model": changed_weights}, path)
        with refused(path, *parts):
            load_trained(path)
    save_tensors(content | {"settings": content["settings"] | {"channels": 16}}, path)
    with refused(path, "stem.0.weight", "(4, 1, 7, 7)", "(16, 1, 7, 7)"):
        load_trained(path)


def test_validation_and_the_model_file_score_alike(random_pixels):
    """A checkpoint is chosen by the scores that are reported: passes and smoothing included."""
    settings = resolve_settings("paper", channels=4, num_res_blocks=1, map_passes=4, map_smoothing="guided")
    network = SaganGenerator(**settings.generator()).eval()
    valid = random_pixels(3)
    with torch.inference_mode():
        validated = AnomalyInferer(settings)(to_unit_range(valid), network)["anomaly_score"]
    saved = describe_trained(network, settings, valid, 1)["valid_normal_scores"]
    assert torch.equal(validated, saved)
    plain = Scorer(network, settings.image_size).score(valid)
    assert (plain - saved).abs().max() > 1e-5
