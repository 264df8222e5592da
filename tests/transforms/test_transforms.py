"""The array and dictionary transforms: one contract for all, and what each does of its own."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, Randomizable

from monai_sagan import transforms
from monai_sagan.transforms.functional import append_position_code, foreign_patch


@dataclass
class Pair:
    """An array transform and its dictionary twin: which entries go in, which come out."""

    array: type
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def dictionary(self) -> type:
        return getattr(transforms, self.array.__name__ + "d")

    def make_array(self, seed: int | None = 0) -> Any:
        return seeded(self.array(**self.settings), seed)

    def make_dictionary(self, seed: int | None = 0) -> Any:
        return seeded(self.dictionary("image", **self.settings), seed)

    def of_array(self, transform: Any, data: dict[str, Any]) -> tuple[Any, ...]:
        result = transform(*(data[key] for key in self.inputs))
        return result if isinstance(result, tuple) else (result,)

    def of_dictionary(self, transform: Any, data: dict[str, Any]) -> tuple[Any, ...]:
        result = transform(data)
        return tuple(result[key] for key in self.outputs)


PAIRS = [
    Pair(transforms.RandForeignPatchInterpolation, ("image", "source"), ("pseudo", "pseudo_mask")),
    Pair(transforms.PatchPositionEncoding, ("image",), ("image",), {"grid": (4, 2), "rounding": "floor"}),
    Pair(transforms.AnomalyMap, ("image", "pred"), ("anomaly_map",)),
]
RANDOM = [pair for pair in PAIRS if issubclass(pair.array, Randomizable)]
FACES = ["array", "dictionary"]
KINDS = {"numpy": np.ndarray, "torch": torch.Tensor, "meta": MetaTensor}

each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.array.__name__)
each_random = pytest.mark.parametrize("pair", RANDOM, ids=lambda pair: pair.array.__name__)
each_face = pytest.mark.parametrize("face", FACES)


def seeded(transform: Any, seed: int | None) -> Any:
    return transform.set_random_state(seed) if isinstance(transform, Randomizable) and seed is not None else transform


def data_of(kind: str = "torch", dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    """An item with the inputs of every transform; the numbers are the same for each kind and type."""
    random, data = np.random.RandomState(seed), {}
    for key in ("image", "source", "pred"):
        pixels = random.randint(0, 2, (2, 64, 64)).astype(dtype)
        if kind == "numpy":
            data[key] = pixels
        elif kind == "torch":
            data[key] = torch.from_numpy(pixels)
        else:
            data[key] = MetaTensor(pixels, affine=torch.diag(torch.tensor([2.0, 3, 1, 1])), meta={"name": key})
    return data


def run(pair: Pair, face: str, data: dict[str, Any], seed: int = 0) -> tuple[Any, ...]:
    if face == "array":
        return pair.of_array(pair.make_array(seed), data)
    return pair.of_dictionary(pair.make_dictionary(seed), data)


def numbers(outputs: tuple[Any, ...]) -> list[np.ndarray]:
    return [np.asarray(output) for output in outputs]


def equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


def test_the_contract_is_about_every_transform():
    assert {cls.__name__ for pair in PAIRS for cls in (pair.array, pair.dictionary)} == set(transforms.__all__)


@each_pair
@each_face
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "becomes"), [("uint8", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_same_type_out(pair, face, kind, dtype, becomes):
    data = data_of(kind, dtype)
    copies = pickle.loads(pickle.dumps(data))
    outputs = run(pair, face, data)
    for output in outputs:
        assert type(output) is KINDS[kind]
        assert str(output.dtype).removeprefix("torch.") == becomes
        assert output.shape[1:] == (64, 64)
    for key, value in data.items():
        assert np.array_equal(value, copies[key]), f"{key} was changed in place"
    for output, exact in zip(numbers(outputs), numbers(run(pair, face, data_of("torch", "float64"))), strict=True):
        np.testing.assert_allclose(output, exact, atol=1e-6)


@each_pair
@each_face
def test_meta_tensors_keep_their_meta(pair, face):
    for output in run(pair, face, data_of("meta")):
        assert output.meta["name"] == "image"
        assert output.affine.diag().tolist() == [2, 3, 1, 1]


@each_pair
@pytest.mark.parametrize("kind", KINDS)
def test_twins_agree(pair, kind):
    assert equal(run(pair, "array", data_of(kind), seed=3), run(pair, "dictionary", data_of(kind), seed=3))


@each_pair
def test_twins_have_the_same_defaults(pair):
    array, dictionary = (inspect.signature(cls).parameters for cls in (pair.array, pair.dictionary))
    for name, parameter in array.items():
        assert dictionary[name].default == parameter.default


@each_pair
@each_face
def test_a_seed_decides(pair, face):
    outputs = run(pair, face, data_of(), seed=1)
    assert equal(run(pair, face, data_of(), seed=1), outputs)
    if pair in RANDOM:
        assert not equal(run(pair, face, data_of(), seed=2), outputs)


@each_random
@each_face
def test_each_call_draws_anew(pair, face):
    transform = pair.make_array() if face == "array" else pair.make_dictionary()
    of = pair.of_array if face == "array" else pair.of_dictionary
    assert not equal(of(transform, data_of()), of(transform, data_of()))


@each_random
def test_draws_leave_the_global_generators_alone(pair):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(3).tolist(), np.random.random_sample(3).tolist()
    torch.manual_seed(0)
    np.random.seed(0)
    run(pair, "array", data_of())
    run(pair, "dictionary", data_of())
    assert (torch.rand(3).tolist(), np.random.random_sample(3).tolist()) == expected


@each_pair
@each_face
def test_pickled_transforms_go_on_the_same(pair, face):
    transform = pair.make_array() if face == "array" else pair.make_dictionary()
    of = pair.of_array if face == "array" else pair.of_dictionary
    of(transform, data_of())
    copy = pickle.loads(pickle.dumps(transform))
    assert equal(of(copy, data_of()), of(transform, data_of()))


@each_pair
def test_in_compose(pair):
    data = data_of()
    dictionary = Compose([pair.make_dictionary(None)]).set_random_state(5)
    array = Compose([pair.make_array(None)], map_items=False, unpack_items=True).set_random_state(5)
    results = [(dictionary(data), array(tuple(data[key] for key in pair.inputs))) for _ in range(2)]
    for of_dictionary, of_array in results:
        outputs = of_array if isinstance(of_array, tuple) else (of_array,)
        assert equal(tuple(of_dictionary[key] for key in pair.outputs), outputs)
    if pair in RANDOM:
        assert not equal(tuple(results[0][0].values()), tuple(results[1][0].values()))


@each_pair
@pytest.mark.parametrize("num_workers", [0, 2])
def test_in_a_cache_dataset_and_a_data_loader(pair, num_workers):
    items = [data_of("meta", seed=seed) for seed in range(4)]

    def epochs() -> list[tuple[Any, ...]]:
        dataset = CacheDataset(items, Compose([pair.make_dictionary(None)]), progress=False)
        dataset.transform.set_random_state(0)
        torch.manual_seed(0)
        loader = DataLoader(dataset, batch_size=2, num_workers=num_workers)
        batches = [batch for _ in range(2) for batch in loader]
        return [tuple(batch[key] for key in pair.outputs) for batch in batches]

    outputs = epochs()
    assert all(len(output) == 2 and output.shape[2:] == (64, 64) for batch in outputs for output in batch)
    assert all(equal(one, other) for one, other in zip(outputs, epochs(), strict=True))
    if pair in RANDOM:  # nothing random is cached, and no two workers or epochs draw alike
        masks = torch.cat([batch[1] for batch in outputs])
        assert len({mask.numpy().tobytes() for mask in masks}) == 8
    else:
        assert equal(outputs[0], outputs[2])


@each_pair
def test_dictionary_keeps_the_other_entries_and_its_input(pair):
    data = data_of() | {"label": 1}
    before = dict(data)
    result = pair.make_dictionary()(data)
    assert data.keys() == before.keys()
    assert all(data[key] is before[key] for key in data)
    assert result["label"] == 1
    assert result["source"] is data["source"]


@each_pair
def test_missing_keys(pair):
    strict, lenient = pair.dictionary(("image", "other")), pair.dictionary(("image", "other"), allow_missing_keys=True)
    with pytest.raises(KeyError, match="other"):
        strict(data_of())
    assert set(pair.outputs) <= set(lenient(data_of()))


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
    assert equal(transform(data["image"], data["source"], randomize=False), first)
    transform.randomize()
    assert not equal(transform(data["image"], data["source"], randomize=False), first)


def test_source_of_another_type_is_taken():
    data, exact = data_of("torch", "uint8"), data_of("torch", "float32")
    one = transforms.RandForeignPatchInterpolation().set_random_state(0)(exact["image"], data["source"].numpy())
    other = transforms.RandForeignPatchInterpolation().set_random_state(0)(exact["image"], exact["source"])
    assert equal(one, other)


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
    transform = cls(**keys, grid=(3, 2))
    with pytest.raises(ValueError, match=r"image height of 64 .*; use 63 or 66"):
        transform(data_of() if keys else data_of()["image"])


def test_anomaly_map_takes_batches():
    image, restored = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    result = transforms.AnomalyMap()(image, restored)
    assert torch.equal(result, (image - restored).abs() / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_anomaly_score_is_the_mean_of_the_map(kind):
    result = transforms.AnomalyMapd(map_key="{key}_map", score_key="{key}_score")(data_of(kind))
    assert float(result["image_score"]) == pytest.approx(float(result["image_map"].mean()))
    assert torch.as_tensor(result["image_score"]).ndim == 0
