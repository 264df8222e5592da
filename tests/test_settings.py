"""Presets, values beside them, and an error that names each value that does not fit."""

from __future__ import annotations

import dataclasses
import json

import pytest

from monai_sagan.data.cache import HowToDecode
from monai_sagan.methods import resolve_settings
from monai_sagan.methods.sagan import Sagan, SaganOptions
from monai_sagan.models.trained import _settings
from monai_sagan.networks import SaganGenerator
from monai_sagan.settings import as_plain, resolve_flags

COMMON = {
    "image_size": (64, 64),
    "grid": (2, 2),
    "channels": 64,
    "num_res_blocks": 6,
    "keep_prob": 0.95,
    "max_iterations": 100_000,
    "iterations_per_epoch": 1000,
    "n_critic": 2,
    "lambda_gp": 10,
    "fake_source": "unlabeled",
    "anatomical_consistency": True,
    "abnormal_region_restoration": True,
    "ema_decay": 0,
}
PUBLISHED = {
    "learning_rate": 5e-5,
    "critic_betas": (0.5, 0.999),
    "critic_init": "torch",
    "lambda_id": 1,
    "lambda_rec": 1,
    "augment": False,
    "preparation": "med_ad",
    "min_foreground": 0,
    "map_passes": 1,
    "map_smoothing": "none",
    "map_sigma": 2,
    "output": "tanh",
}
PAPER = {
    "batch_size": 64,
    "learning_rate_decay": 0.5,
    "gate_norm": None,
    "position_norm": "instance",
    "position_bits": "ceil",
    "paired": False,
    "mask_at_test": False,
}
OFFICIAL = {
    "batch_size": 32,
    "learning_rate_decay": 0,
    "gate_norm": "instance",
    "position_norm": "instance",
    "position_bits": "floor",
    "paired": True,
    "mask_at_test": True,
}


@pytest.mark.parametrize(("preset", "values"), [("paper", PAPER), ("official", OFFICIAL)])
def test_published_presets(preset, values):
    settings = resolve_settings(preset)
    for name, value in (COMMON | PUBLISHED | values).items():
        assert getattr(settings, name) == value, name
    assert settings.epochs == 100
    assert len(values | COMMON | PUBLISHED) + 2 == len(dataclasses.fields(settings))  # in_channels and method, too


def test_recommended_is_the_default():
    settings = resolve_settings()
    assert settings == resolve_settings("recommended")
    for name, value in COMMON.items():
        assert getattr(settings, name) == value
    assert (settings.learning_rate, settings.lambda_id, settings.lambda_rec) == (2e-4, 10, 10)
    assert (settings.critic_betas, settings.critic_init) == ((0.5, 0.99), "he")
    assert settings.augment
    assert settings.preparation == "display"
    assert settings.gate_norm is None
    assert (settings.map_smoothing, settings.map_sigma, settings.map_passes) == ("gaussian", 2, 1)


def test_arguments_of_others():
    settings = resolve_settings("paper", image_size=128, in_channels=3, preparation="display", min_foreground=0.1)
    assert settings.decoding() == HowToDecode((128, 128), 3, "display", 0.1)
    assert resolve_settings("paper").decoding() == HowToDecode((64, 64), 1, "med_ad")
    assert settings.mapping() == {"passes": 1, "smooth": None}
    smooth = resolve_settings("paper", map_smoothing="gaussian", map_sigma=3, map_passes=4).mapping()
    assert smooth == {"passes": 4, "smooth": {"kind": "gaussian", "sigma": 3}}
    assert resolve_settings("paper", map_smoothing="guided").mapping()["smooth"] == {"kind": "guided"}


def test_defaults_are_the_papers():
    assert SaganOptions() == resolve_settings("paper")


@pytest.mark.parametrize("preset", Sagan.presets)
def test_given_values_win(preset):
    given = {
        "batch_size": 7,
        "gate_norm": "instance",
        "learning_rate": 0.5,
        "paired": False,
        "mask_at_test": False,
        "learning_rate_decay": 0.25,
        "lambda_id": 3,
        "augment": False,
    }
    settings = resolve_settings(preset, **given)
    assert {name: getattr(settings, name) for name in given} == given
    assert resolve_settings(preset, **dict.fromkeys(given)) == resolve_settings(preset)  # None is not given
    assert resolve_settings(preset, gate_norm="none").gate_norm is None


def test_one_number_is_a_square():
    settings = resolve_settings(image_size=128, grid=4)
    assert (settings.image_size, settings.grid) == ((128, 128), (4, 4))
    settings = resolve_settings(image_size=[64, 96], grid=[1, 3])
    assert (settings.image_size, settings.grid) == ((64, 96), (1, 3))


def test_whole_numbers_are_numbers():
    assert type(resolve_settings(lambda_id=2).lambda_id) is float


@pytest.mark.parametrize(("given", "wanted"), [(1, (1, 1)), (300, (1, 300)), (1000, (1, 1000)), (3000, (3, 1000))])
def test_a_short_run_is_one_epoch(given, wanted):
    settings = resolve_settings(max_iterations=given)
    assert (settings.epochs, settings.iterations_per_epoch) == wanted
    assert resolve_settings(max_iterations=40, iterations_per_epoch=10).epochs == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("channels", value) for value in (0, -1, 1.5, "64", True, [64])),
        *(("batch_size", value) for value in (0, 2.0, "big")),
        *(("max_iterations", value) for value in (0, -5, 10.0, "100", True)),
        *(("iterations_per_epoch", value) for value in (0, 0.5, "x")),
        *(("n_critic", value) for value in (0, 1.5)),
        *(("num_res_blocks", value) for value in (-1, 1001, "six")),
        *(("keep_prob", value) for value in (0, -0.5, 1.01, "all", float("nan"))),
        *(("learning_rate", value) for value in (0, -1e-4, 2, float("nan"), float("inf"), "fast")),
        *(("learning_rate_decay", value) for value in (-0.1, 1.1, True)),
        *((name, value) for name in ("lambda_id", "lambda_rec", "lambda_gp") for value in (-1, float("inf"), "x")),
        *(
            ("critic_betas", value)
            for value in (0.5, [0.5], [0.5, 1], [-0.1, 0.9], ["0.5", 0.9], [0, 0.5, 0.9], [0, True])
        ),
        *(("ema_decay", value) for value in (-0.1, 1, 1.5)),
        *((name, value) for name in ("augment", "paired", "mask_at_test") for value in (1, 0, "yes")),
        ("anatomical_consistency", "no"),
        ("abnormal_region_restoration", 0),
        *(("gate_norm", value) for value in ("batch", 1, False)),
        *(("position_bits", value) for value in ("round", 3)),
        *(("output", value) for value in ("add", 3)),
        *(("fake_source", value) for value in ("normal", True)),
        *(("in_channels", value) for value in (2, 0, "1")),
        *(("image_size", value) for value in (0, -64, 64.0, "64", [64], [64, 64, 64], [64, 64.0], [64, 0], True)),
        *(("grid", value) for value in (0, [2], [2, "2"], [2, -1], {})),
    ],
)
def test_each_wrong_value_is_named(name, value, refused):
    with refused(f"{name} is {value!r}"):
        resolve_settings(**{name: value})


def test_what_does_not_fit_together(refused):
    for grid, size in (((3, 3), 64), ((2, 3), 64), ((5, 1), 64)):
        with refused("grid", grid, size, "multiple of"):
            resolve_settings(grid=list(grid), image_size=size)
    with refused("width of 68", "80"):
        resolve_settings(image_size=[64, 68])
    with refused("image_size is [48, 64]", "at least 64"):
        resolve_settings(image_size=[48, 64])
    with refused("max_iterations 1500", "iterations_per_epoch 1000", "1000 or 2000"):
        resolve_settings(max_iterations=1500)
    with refused("max_iterations 5", "iterations_per_epoch 10", "use 10"):
        resolve_settings(max_iterations=5, iterations_per_epoch=10)


def test_the_grid_is_of_no_account_without_patches():
    settings = resolve_settings(grid=3, anatomical_consistency=False)
    assert settings.grid == (3, 3)


def test_unknown_names(refused):
    with refused("preset is 'papper'", "paper, official, recommended"):
        resolve_settings("papper")
    with refused("'bacth_size'", "the nearest is batch_size"):
        resolve_settings(bacth_size=3)


@pytest.mark.parametrize("preset", Sagan.presets)
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"gate_norm": "none", "position_norm": "none", "grid": [4, 2], "critic_betas": [0, 0.5], "max_iterations": 20},
    ],
)
def test_plain_values_bring_the_settings_back(preset, given):
    settings = resolve_settings(preset, **given)
    assert _settings(json.loads(json.dumps(as_plain(settings)))) == settings


@pytest.mark.parametrize("preset", Sagan.presets)
def test_generator_is_built_from_its_settings(preset):
    settings = resolve_settings(preset, channels=4, num_res_blocks=1, grid=[4, 2], keep_prob=0.5)
    network = SaganGenerator(**settings.generator())
    assert (network.rows, network.cols, network.keep_prob) == (4, 2, 0.5)


def test_words_of_a_command_line():
    assert resolve_settings("paper", augment="true").augment
    assert not resolve_settings("recommended", augment="False").augment
    flags = resolve_flags(a=True, b="false", c="true")
    assert (flags.a, flags.b, flags.c) == (True, False, True)


def test_a_flag_is_on_or_off(refused):
    with refused("strict is 'yes'", "true or false"):
        resolve_flags(strict="yes")
