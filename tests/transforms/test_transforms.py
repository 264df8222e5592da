"""What each of the array and dictionary transforms does of its own; see the conformance suite for what all do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sagan import transforms
from monai_sagan.transforms.functional import append_position_code, foreign_patch

pytestmark = pytest.mark.filterwarnings("ignore:the images have values from 0 to 1")  # zeros and ones are meant
KINDS = ("numpy", "torch", "meta")


def data_of(kind: str = "torch", dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    """An item with the inputs of every transform; the numbers are the same for each kind and type."""
    random, data = np.random.RandomState(seed), {}
    for key in ("image", "source", "pred"):
        pixels = random.randint(0, 2, (2, 64, 64)).astype(dtype)
        data[key] = {"numpy": np.asarray, "torch": torch.from_numpy, "meta": MetaTensor}[kind](pixels)
    return data


def test_array_is_the_batched_core_with_its_own_uniforms():
    data = data_of("torch", "float32")
    transform = transforms.RandForeignPatchInterpolation(0.4, (0.1, 0.3), (0.2, 0.9)).set_random_state(7)
    for _ in range(5):
        blended, mask = transform(data["image"], data["source"])
        core = foreign_patch(data["image"][None], data["source"][None], transform.uniform, 0.4, (0.1, 0.3), (0.2, 0.9))
        assert torch.equal(blended, core[0][0])
        assert torch.equal(mask, core[1][0])


def test_a_batch_equals_its_images_one_by_one():
    transform = transforms.RandForeignPatchInterpolation().set_random_state(0)
    items, draws, singles = [data_of(seed=seed) for seed in range(4)], [], []
    for item in items:
        singles.append(transform(item["image"], item["source"]))
        draws.append(transform.uniform)
    images, sources = (torch.stack([item[key] for item in items]) for key in ("image", "source"))
    blended, masks = foreign_patch(images, sources, torch.cat(draws))
    assert torch.equal(blended, torch.stack([single[0] for single in singles]))
    assert torch.equal(masks, torch.stack([single[1] for single in singles]))


def test_a_draw_can_be_used_again():
    data, transform = data_of(), transforms.RandForeignPatchInterpolation().set_random_state(0)
    first = transform(data["image"], data["source"])
    again = transform(data["image"], data["source"], randomize=False)
    assert all(torch.equal(one, other) for one, other in zip(again, first, strict=True))
    transform.randomize()
    assert not torch.equal(transform(data["image"], data["source"], randomize=False)[0], first[0])


def test_source_of_another_type_is_taken():
    data, exact = data_of("torch", "uint8"), data_of("torch", "float32")
    one = transforms.RandForeignPatchInterpolation().set_random_state(0)(exact["image"], data["source"].numpy())
    other = transforms.RandForeignPatchInterpolation().set_random_state(0)(exact["image"], exact["source"])
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_images_of_unlike_shape_are_refused():
    with pytest.raises(ValueError, match=r"image has shape \(1, 64, 64\), source \(1, 64, 32\)"):
        transforms.RandForeignPatchInterpolation()(torch.zeros(1, 64, 64), torch.zeros(1, 64, 32))


@pytest.mark.parametrize("cls", [transforms.RandForeignPatchInterpolation, transforms.RandForeignPatchInterpolationd])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"core": 1.5}, "core is"),
        ({"size": (0.3, 0.2)}, r"size is \(0.3, 0.2\)"),
        ({"size": (-0.1, 0.2)}, "size is"),
        ({"opacity": (0.0, 1.1)}, "opacity is .* shares from 0 to 1"),
        ({"size": 0.1}, r"^size is 0.1; it is two shares from 0 to 1, the least first$"),
        ({"size": (0.1,)}, r"^size is \(0.1,\); it is two shares"),
        ({"opacity": ("0", "1")}, "^opacity is .*; it is two shares"),
        ({"core": (0.1, 0.2)}, "^core is .*; it is a share"),
    ],
)
def test_wrong_shares(cls, settings, says):
    keys = {"keys": "image"} if cls.__name__.endswith("d") else {}
    with pytest.raises(ValueError, match=says):
        cls(**keys, **settings)


def test_all_keys_get_the_same_square_under_their_own_names():
    transform = transforms.RandForeignPatchInterpolationd(
        ("image", "pred"), pseudo_key="{key}", mask_key="{key}_mask", opacity=(1.0, 1.0)
    ).set_random_state(0)
    data = data_of()
    result = transform(data)
    assert torch.equal(result["image_mask"], result["pred_mask"])
    for key in ("image", "pred"):
        mask = result[f"{key}_mask"].bool()
        assert torch.equal(result[key], torch.where(mask, data["source"], data[key]))


def test_each_of_several_keys_has_its_own_restored_version():
    data = data_of()
    both = {"a": data["image"], "b": data["pred"], "healthy_a": data["source"], "healthy_b": data["source"] * 0}
    transform = transforms.AnomalyMapd(("a", "b"), "healthy_{key}", "{key}_map", "{key}_score")
    result = transform(both)
    for key in ("a", "b"):
        alone = transforms.AnomalyMapd(key, f"healthy_{key}")(both)
        assert torch.equal(result[f"{key}_map"], alone["anomaly_map"])
        assert torch.equal(result[f"{key}_score"], alone["anomaly_score"])


def test_dictionary_finds_its_source():
    data = data_of()
    moved = {"image": data["image"], "another": data["source"]}
    one = transforms.RandForeignPatchInterpolationd("image", source_key="another").set_random_state(0)(moved)
    other = transforms.RandForeignPatchInterpolationd("image").set_random_state(0)(data)
    assert torch.equal(one["pseudo"], other["pseudo"])


def test_position_encoding_is_the_functional_one():
    image = data_of()["image"]
    assert torch.equal(transforms.PatchPositionEncoding((4, 2))(image), append_position_code(image, (4, 2), "ceil"))


@pytest.mark.parametrize("cls", [transforms.PatchPositionEncoding, transforms.PatchPositionEncodingd])
def test_position_encoding_errors(cls):
    keys = {"keys": "image"} if cls.__name__.endswith("d") else {}
    with pytest.raises(ValueError, match="rounding is 'round'"):
        cls(**keys, rounding="round")
    with pytest.raises(ValueError, match="no patches"):
        cls(**keys, grid=(0, 1))
    for grid in ((2,), (2.0, 2), 2, "22", None):
        with pytest.raises(ValueError, match=r"^grid is .*; it is two whole numbers, rows and columns of patches$"):
            cls(**keys, grid=grid)
    transform = cls(**keys, grid=(3, 2))
    with pytest.raises(ValueError, match=r"image height of 64 .*; use 63 or 66"):
        transform(data_of() if keys else data_of()["image"])


def test_anomaly_map_takes_batches():
    image, restored = torch.rand(2, 3, 1, 8, 8) * 2 - 1
    result = transforms.AnomalyMap()(image, restored)
    assert torch.equal(result, (image - restored).abs() / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_anomaly_score_is_the_mean_of_the_map(kind):
    result = transforms.AnomalyMapd(map_key="{key}_map", score_key="{key}_score")(data_of(kind))
    assert float(result["image_score"]) == pytest.approx(float(result["image_map"].mean()))
    assert torch.as_tensor(result["image_score"]).ndim == 0
    assert isinstance(result["image_score"], np.ndarray if kind == "numpy" else torch.Tensor)
