"""Images on another scale are warned of, once; others never are, nor is what is traced, compiled or exported."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from monai_sagan import AnomalyMap, AnomalyMapd, SaganGenerator
from monai_sagan.networks.value_range import warn_of_range

NOISE = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
OTHER_SCALES = {"[0, 1]": NOISE, "[0, 255]": NOISE * 255, "z-scores": NOISE * 5 - 2.5, "integers": (NOISE * 255).int()}
RIGHT = {
    "[-1, 1]": NOISE * 2 - 1,
    "dark": NOISE * 0.5 - 1,
    "overshooting": NOISE * 2.4 - 1.2,
    "even": torch.full((1, 1, 32, 32), 0.5),
    "black": torch.zeros(1, 1, 32, 32),
    "not a number": torch.full((1, 1, 32, 32), torch.nan),
}


def generator():
    return SaganGenerator(channels=4, num_res_blocks=0).eval()


def warned(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in found if "expect [-1, 1]" in str(warning.message)]


@pytest.mark.parametrize("image", OTHER_SCALES.values(), ids=OTHER_SCALES)
def test_another_scale_is_warned_of_once(image):
    network, maps, dictionary = generator(), AnomalyMap(), AnomalyMapd()
    calls = [
        lambda: network(image.float()),
        lambda: maps(image, image),
        lambda: maps(image.numpy(), image.numpy()),
        lambda: dictionary({"image": image[0], "pred": image[0]}),
    ]
    first = [len(warned(call)) for call in calls]
    assert first == [1, 1, 0, 1]
    assert sum(len(warned(call)) for call in calls) == 0


@pytest.mark.parametrize("image", RIGHT.values(), ids=RIGHT)
def test_the_right_scale_is_not(image):
    for call in (lambda: generator()(image), lambda: AnomalyMap()(image, image), lambda: warn_of_range(image)):
        assert warned(call) == []


def test_the_words_name_values_and_mend():
    (words,) = warned(lambda: AnomalyMap()(NOISE.half(), NOISE.half()))
    assert "as if scaled to [0, 1]" in words
    assert "ScaleIntensityRange(0, 1, -1, 1)" in words
    (words,) = warned(lambda: AnomalyMap()(np.array([[[-1000, 3071]]]), np.array([[[0, 0]]])))
    assert "from -1000 to 3071, which are not scaled" in words


def test_training_is_not_watched():
    network = generator().train()
    assert warned(lambda: network(NOISE)) == []
    assert len(warned(lambda: network.eval()(NOISE))) == 1
    assert len(warned(lambda: copy.deepcopy(generator())(NOISE))) == 1
    assert warned(lambda: pickle.loads(pickle.dumps(network))(NOISE)) == []


def test_what_stands_for_the_network_is_not_watched():
    """Reading values would break the graph, and a tensor without values has none."""
    network, batch = generator(), torch.cat([NOISE, NOISE])
    script = torch.jit.script(network)
    for call in (
        lambda: script(NOISE),
        lambda: torch.jit.trace(network, NOISE, check_trace=False)(NOISE),  # the check calls the network itself
        lambda: torch.export.export(network, (NOISE,)).module()(NOISE),
        lambda: torch.compile(network, backend="eager", fullgraph=True)(NOISE),
        lambda: torch.func.vmap(generator())(batch[:, None]),
        lambda: generator().to("meta")(NOISE.to("meta")),
    ):
        assert warned(call) == []
    with FakeTensorMode() as mode:
        fake = generator()
        assert fake(mode.from_tensor(NOISE)).shape == NOISE.shape
    assert len(warned(lambda: network(NOISE))) == 1  # it was not used up


def test_trained_models_scale_their_images_themselves(tmp_path, save_model):
    """A bright image is not a mistake there, whatever its values are."""
    from monai_sagan.models.trained import load_trained

    save_model(tmp_path / "model.pt")
    bright = torch.randint(128, 256, (1, 1, 64, 64), dtype=torch.uint8)
    assert warned(lambda: load_trained(tmp_path / "model.pt").score(bright)) == []
