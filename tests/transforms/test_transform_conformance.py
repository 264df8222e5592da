"""What every public transform promises, whichever it is: found by its name, so that a new one is covered at once."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor, PersistentDataset, pickle_hashing
from monai.transforms import (
    Compose,
    EnsureTyped,
    Flip,
    Flipd,
    MapTransform,
    Randomizable,
    Rotate90,
    SpatialPad,
    Transform,
)
from monai.utils import TransformBackends

from monai_sagan import transforms
from monai_sagan.transforms import functional

PUBLIC = {name: getattr(transforms, name) for name in transforms.__all__}


@dataclass
class Row:
    """An array transform: which entries of a dictionary go in and come out, and its settings for an image size."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Callable[[int, int], dict[str, Any]] = lambda height, width: {}


# One row for each array transform; its dictionary twin bears the same name with a d behind it.
ROWS = {
    "AnomalyMap": Row(("image", "pred"), ("anomaly_map",)),
    "PatchPositionEncoding": Row(
        ("image",), ("image",), lambda h, w: {"grid": (4, 2) if h % 4 == w % 2 == 0 else (h, 1), "rounding": "floor"}
    ),
    "RandCutPaste": Row(("image",), ("pseudo", "pseudo_label")),
    "RandForeignPatchInterpolation": Row(("image", "source"), ("pseudo", "pseudo_mask")),
    "RandNaturalSyntheticAnomaly": Row(("image", "source"), ("pseudo", "pseudo_label")),
    "RandPatchInterpolation": Row(("image", "source"), ("pseudo", "pseudo_label")),
    "RandPoissonPatch": Row(("image", "source"), ("pseudo", "pseudo_label")),
}
RANDOM = [name for name in ROWS if name in PUBLIC and issubclass(PUBLIC[name], Randomizable)]
pytestmark = pytest.mark.filterwarnings("ignore:the images have values from 0 to 1")  # zeros and ones are meant
KEYS = ["image", "source", "pred"]
KINDS = {"numpy": np.ndarray, "torch": torch.Tensor, "meta": MetaTensor}
SIZE = (32, 48)
SIZES = [(1, 1), (1, 7), (5, 3), (2, 2), (37, 64), (64, 17), (33, 129)]
TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
ONLY = {"numpy": ["uint16"], "torch": ["bfloat16"], "meta": ["bfloat16"]}  # torch can do hardly anything with uint16
KINDS_AND_TYPES = [(kind, dtype) for kind in KINDS for dtype in TYPES + ONLY[kind]]

each = pytest.mark.parametrize("name", ROWS)
each_random = pytest.mark.parametrize("name", RANDOM)
each_face = pytest.mark.parametrize("face", ["array", "dictionary"])
each_kind = pytest.mark.parametrize("kind", KINDS)


class Face:
    """An array transform or its twin, called in the same way: with a dictionary; returns its outputs as a tuple."""

    def __init__(self, name: str, face: str, seed: int | None = 0, size: tuple[int, int] = SIZE, **more: Any) -> None:
        self.row, self.face = ROWS[name], face
        settings = self.row.settings(*size)
        self.transform = (
            PUBLIC[name](**settings) if face == "array" else PUBLIC[name + "d"]("image", **settings, **more)
        )
        if seed is not None and isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed)

    def __call__(self, data: dict[str, Any], transform: Any = None) -> tuple[Any, ...]:
        transform = self.transform if transform is None else transform
        if self.face == "dictionary":
            result = transform(data)
            return tuple(result[key] for key in self.row.outputs)
        result = transform(*(data[key] for key in self.row.inputs))
        return result if isinstance(result, tuple) else (result,)


def data_of(
    kind: str = "torch", dtype: str = "float32", size: tuple[int, int] = SIZE, channels: int = 2, seed: int = 0
) -> dict[str, Any]:
    """An item with the inputs of every transform: zeros and ones, the same for each kind and type."""
    random, data = np.random.RandomState(seed), {}
    for key in KEYS:
        pixels = random.randint(0, 2, (channels, *size)).astype(dtype)
        if kind == "numpy":
            data[key] = pixels
        elif kind == "torch":
            data[key] = torch.from_numpy(pixels)
        else:
            data[key] = MetaTensor(pixels, affine=torch.diag(torch.tensor([2.0, 3, 1, 1])), meta={"name": key})
    return data


def equal(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))


# The table and the names


def test_every_public_transform_has_a_row():
    arrays = {name for name, cls in PUBLIC.items() if not issubclass(cls, MapTransform)}
    missing = arrays - ROWS.keys()
    assert not missing, f"add a row to ROWS, with what goes in and comes out, for: {', '.join(sorted(missing))}"
    assert ROWS.keys() <= arrays


def test_every_transform_is_public_in_both_forms():
    defined = {
        name
        for module in (transforms.array, transforms.dictionary)
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    assert defined == set(PUBLIC)
    assert {name + "d" for name in ROWS} == set(PUBLIC) - ROWS.keys()


@pytest.mark.parametrize("name", PUBLIC)
def test_it_is_a_transform_of_monai(name):
    cls = PUBLIC[name]
    assert issubclass(cls, Transform)
    assert issubclass(cls, MapTransform) == name.endswith("d")
    assert cls.backend
    assert set(cls.backend) <= set(TransformBackends)


@each
def test_twins_have_the_same_arguments_and_defaults(name):
    array, dictionary = (inspect.signature(cls).parameters for cls in (PUBLIC[name], PUBLIC[name + "d"]))
    for argument, parameter in array.items():
        assert dictionary[argument].default == parameter.default
    assert dictionary["allow_missing_keys"].default is False


@each
@each_kind
def test_twins_agree(name, kind):
    assert equal(Face(name, "array", 3)(data_of(kind)), Face(name, "dictionary", 3)(data_of(kind)))


# What goes in, what comes out


@each
@each_face
@pytest.mark.parametrize(("kind", "dtype"), KINDS_AND_TYPES)
def test_kind_and_type_of_the_result(name, face, kind, dtype):
    data = data_of(kind, "float32" if dtype == "bfloat16" else dtype)
    if dtype == "bfloat16":
        data = {key: value.bfloat16() for key, value in data.items()}
    outputs = Face(name, face)(data)
    exact = Face(name, face)(data_of("torch", "float64"))
    for output, expected in zip(outputs, exact, strict=True):
        assert type(output) is KINDS[kind]
        assert str(output.dtype).removeprefix("torch.") == (dtype if "float" in dtype else "float32")
        assert output.shape[1:] == SIZE
        wide = output.double() if isinstance(output, torch.Tensor) else output
        np.testing.assert_allclose(
            np.asarray(wide), expected, atol={"bfloat16": 5e-3, "float16": 6e-4}.get(dtype, 1e-6)
        )


@each
@each_face
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(name, face, size, channels):
    for output in Face(name, face, size=size)(data_of(size=size, channels=channels)):
        assert output.shape[1:] == size
        assert output.isfinite().all()


@each
@each_face
@each_kind
def test_the_input_is_not_changed_nor_shared(name, face, kind):
    data = data_of(kind)
    before = copy.deepcopy(data)
    for output in Face(name, face)(data):
        output += 1
        if kind == "meta":
            output.meta["name"] = "changed"
            output.applied_operations.append({"class": "None"})
    for key, value in data.items():
        assert np.array_equal(np.asarray(value), np.asarray(before[key]))
        if kind == "meta":
            assert value.meta["name"] == key
            assert value.applied_operations == []


@each
@each_face
@pytest.mark.parametrize(
    "make",
    [
        lambda x: np.asfortranarray(x),
        lambda x: x[:, ::-1, ::-1][:, ::-1, ::-1],
        lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: x.astype(">f4"),
        lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
        lambda x: torch.from_numpy(x).transpose(1, 2).contiguous().transpose(1, 2),
        lambda x: torch.from_numpy(x)[None].to(memory_format=torch.channels_last)[0],
        lambda x: torch.from_numpy(x).requires_grad_(),
    ],
    ids=["fortran", "twice", "backwards", "strided", "swapped", "read-only", "transposed", "channels last", "gradient"],
)
def test_memory_of_any_layout(name, face, make):
    data = data_of("numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the images have values from 0 to 1")
        outputs = Face(name, face)({key: make(value) for key, value in data.items()})
    for output, expected in zip(outputs, Face(name, face)(data), strict=True):
        output = output.detach() if isinstance(output, torch.Tensor) else output
        np.testing.assert_array_equal(np.asarray(output), expected)


@each
@each_face
def test_dictionary_and_array_take_the_kind_of_the_image(name, face):
    """The image decides, whatever the others are."""
    data, mixed = data_of("torch"), data_of("meta")
    mixed |= {key: data_of("numpy", "uint8")[key] for key in ("source", "pred")}
    outputs = Face(name, face)(mixed)
    assert all(type(output) is MetaTensor for output in outputs)
    assert equal(outputs, Face(name, face)(data))


# MetaTensors


@each
@each_face
def test_meta_data_stays(name, face):
    data = data_of("meta")
    for output in Face(name, face)(data):
        assert output.meta["name"] == "image"
        assert torch.equal(output.affine, data["image"].affine)


@each
def test_what_was_applied_before_can_be_undone_behind(name):
    """The geometry stays, so the recorded operations still hold for what comes out."""
    face, before = Face(name, "dictionary", size=(36, 48)), [Flip(1), SpatialPad((36, 48)), Rotate90(2)]
    data = data_of("meta")
    for step in before:
        data = {key: step(value) for key, value in data.items()}
    result = face.transform(data)
    for key in face.row.outputs:
        output = result[key]
        assert [operation["class"] for operation in output.applied_operations] == ["Flip", "SpatialPad", "Rotate90"]
        undone = output.clone()
        for step in reversed(before):
            undone = step.inverse(undone)
        assert torch.equal(undone, output.rot90(2, (1, 2))[:, 2:-2].flip(2))


@each
def test_pending_operations_are_applied_before(name):
    """In a lazy Compose, operations that wait are not overtaken."""
    face = Face(name, "dictionary")
    steps = Compose([Flipd(KEYS, 0), face.transform])
    results = []
    for lazy in (False, True):
        steps.lazy = lazy
        results.append(face(data_of("meta"), steps.set_random_state(0)))
    assert equal(*results)


# Randomness


@each
@each_face
def test_a_seed_decides(name, face):
    outputs = Face(name, face, 1)(data_of())
    assert equal(Face(name, face, 1)(data_of()), outputs)
    if name in RANDOM:
        other = Face(name, face, 2)
        assert not equal(other(data_of()), outputs)
        other.transform.set_random_state(state=np.random.RandomState(1))
        assert equal(other(data_of()), outputs)


@each_random
@each_face
def test_each_call_draws_anew(name, face):
    transform = Face(name, face)
    assert not equal(transform(data_of()), transform(data_of()))


@each
@each_face
def test_the_global_generators_are_left_alone(name, face):
    def draws() -> list[Any]:
        return [torch.rand(3).tolist(), np.random.random_sample(3).tolist()]

    torch.manual_seed(0)
    np.random.seed(0)
    expected = draws()
    torch.manual_seed(0)
    np.random.seed(0)
    Face(name, face, seed=None)(data_of())
    assert draws() == expected


@each
@each_face
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_go_on_the_same_and_apart(name, face, duplicate):
    original = Face(name, face)
    original(data_of())
    twin, idle = duplicate(original.transform), duplicate(original.transform)
    expected = original(data_of())
    assert equal(original(data_of(), twin), expected)
    assert equal(original(data_of(), idle), expected)  # not moved by what the others drew


# In MONAI's pipelines


@each
def test_in_compose(name):
    array, dictionary = Face(name, "array", None), Face(name, "dictionary", None)
    steps = Compose([dictionary.transform]).set_random_state(5)
    unpacked = Compose([array.transform], map_items=False, unpack_items=True).set_random_state(5)
    seen = []
    for _ in range(2):
        data = data_of()
        result = unpacked(tuple(data[key] for key in array.row.inputs))
        seen.append(dictionary(data, steps))
        assert equal(seen[-1], result if isinstance(result, tuple) else (result,))
    assert equal(*seen) == (name not in RANDOM)


@each
def test_in_a_cache_dataset_with_threads(name):
    items = [data_of("meta", seed=seed) for seed in range(4)]
    face = Face(name, "dictionary")
    cached = CacheDataset(items, Compose([face.transform]), progress=False, num_workers=2)
    seen = [tuple(cached[i][key] for key in face.row.outputs) for i in range(4)]
    again = [tuple(cached[i][key] for key in face.row.outputs) for i in range(4)]
    expected = [Face(name, "dictionary")(item) for item in items]
    for one, other, fresh in zip(seen, again, expected, strict=True):
        assert equal(one, other) == (name not in RANDOM)
        assert name in RANDOM or equal(one, fresh)


@each
def test_in_a_persistent_dataset(name, tmp_path):
    face = Face(name, "dictionary")

    def results(seed: int) -> tuple[Any, ...]:
        steps = Compose([EnsureTyped(KEYS, track_meta=True), Face(name, "dictionary").transform])
        dataset = PersistentDataset([data_of("numpy")], steps.set_random_state(seed), tmp_path, pickle_hashing)
        return tuple(dataset[0][key] for key in face.row.outputs)

    first = results(0)
    assert equal(results(0), first)
    assert len(list(tmp_path.glob("*.pt"))) == 1  # whatever the seed: what is drawn is not kept
    assert equal(results(1), first) == (name not in RANDOM)
    assert name in RANDOM or equal(face(data_of("numpy")), first)


@each
def test_equal_transforms_have_equal_hashes(name):
    """By which a persistent cache knows them again; it keeps nothing of random ones."""
    if name not in RANDOM:
        for face in ("array", "dictionary"):
            assert pickle_hashing(Face(name, face).transform) == pickle_hashing(Face(name, face).transform)


def test_in_a_data_loader_with_workers():
    """All at once, for processes cost time; those that replace an input come last."""
    order = sorted(ROWS, key=lambda name: bool(set(ROWS[name].outputs) & set(KEYS)))
    items = [data_of("meta")] * 8

    def epochs(num_workers: int) -> dict[str, torch.Tensor]:
        dataset = Dataset(items, Compose([Face(name, "dictionary", None).transform for name in order]))
        dataset.transform.set_random_state(0)
        torch.manual_seed(0)
        loader = DataLoader(dataset, batch_size=2, num_workers=num_workers)
        batches = [batch for _ in range(2) for batch in loader]
        return {key: torch.cat([batch[key] for batch in batches]) for name in order for key in ROWS[name].outputs}

    first, again, alone = epochs(2), epochs(2), epochs(0)
    for name in order:
        for key in ROWS[name].outputs:
            assert first[key].shape[2:] == SIZE
            assert torch.equal(first[key], again[key])
            if name not in RANDOM:
                assert torch.equal(first[key], alone[key])
        drawn = [{image.numpy().tobytes() for image in images[key]} for images in (first, alone)]
        # 16 equal items: what is random differs between workers, and between epochs
        assert [len(images) > 12 for images in drawn] == [name in RANDOM] * 2


# Wrong input


@each
def test_the_dictionary_keeps_the_other_entries(name):
    data = data_of() | {"label": 1}
    before = dict(data)
    result = Face(name, "dictionary").transform(data)
    assert data.keys() == before.keys()
    assert all(data[key] is before[key] for key in data)
    assert result.keys() >= before.keys()
    assert all(result[key] is before[key] for key in before if key not in ROWS[name].outputs)


@each
def test_missing_keys(name):
    settings = ROWS[name].settings(*SIZE)
    make = partial(PUBLIC[name + "d"], ("image", "other"), **settings, **names_of_outputs(name))
    with pytest.raises(KeyError, match="other"):
        make()(data_of())
    made = {f"image_{output}" if output not in KEYS else output for output in ROWS[name].outputs}
    assert made <= set(make(allow_missing_keys=True)(data_of()))
    assert make(allow_missing_keys=True)({"label": 1}) == {"label": 1}


def names_of_outputs(name: str) -> dict[str, str]:
    """Arguments that give each key outputs of its own."""
    parameters = inspect.signature(PUBLIC[name + "d"]).parameters
    outputs = {p.default: argument for argument, p in parameters.items() if argument.endswith("_key")}
    return {argument: f"{{key}}_{default}" for default, argument in outputs.items() if default not in KEYS}


@each
def test_several_keys_never_write_to_one_place(name):
    own, cls = names_of_outputs(name), PUBLIC[name + "d"]
    settings = ROWS[name].settings(*SIZE)
    for argument in own:
        shared = own | {argument: "shared"}
        with pytest.raises(
            ValueError, match=rf"^{argument} is 'shared' for all of image, source; write '{{key}}' in it"
        ):
            cls(("image", "source"), **settings, **shared)
        cls("image", **settings, **shared)
    data = data_of()
    result = cls(("image", "source"), **settings, **own)(data)
    wanted = [text.format(key=key) for text in own.values() for key in ("image", "source")]
    assert result.keys() - data.keys() == set(wanted)


@each
def test_a_missing_partner_is_named(name):
    for key in ROWS[name].inputs[1:]:
        data = data_of()
        del data[key]
        with pytest.raises(KeyError, match=f"{name}d finds no '{key}' among image"):
            Face(name, "dictionary").transform(data)


@each
@each_face
@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ("image.png", TypeError, "image is a str; give a NumPy array or a tensor"),
        (None, TypeError, "image is a NoneType"),
        ([[[0.0]]], TypeError, "image is a list"),
        (np.zeros((2, 32, 48), np.complex64), TypeError, "image holds complex64; give real numbers"),
        (torch.zeros(2, 32, 48, dtype=torch.complex64), TypeError, "image holds torch.complex64"),
        (np.full((2, 32, 48), "a"), TypeError, "image holds <U1"),
        (torch.zeros(32, 48), ValueError, "image has the shape (32, 48); give (C, H, W)"),
        (torch.zeros(2, 2, 2, 32, 48), ValueError, "image has the shape (2, 2, 2, 32, 48)"),
        (torch.zeros(2, 0, 48), ValueError, "image has the shape (2, 0, 48), which has no pixels"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | type) else None,
)
def test_what_is_no_image_is_refused_in_one_line(name, face, wrong, error, says):
    with pytest.raises(error) as caught:
        Face(name, face)(data_of() | {"image": wrong})
    message = str(caught.value)
    assert message.startswith(says)
    assert "\n" not in message


@each
@each_face
def test_images_of_unlike_shape_are_refused(name, face):
    for key in ROWS[name].inputs[1:]:
        other = "source" if key == "source" else "restored"
        with pytest.raises(ValueError, match=rf"^image has shape \(2, 32, 48\), {other} \(1, 32, 48\); .* equal$"):
            Face(name, face)(data_of() | {key: torch.zeros(1, 32, 48)})


# The batched core


def uniform(count: int) -> torch.Tensor:
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(0))


def batch(channels: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, channels, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# One row for each function: arguments that are tensors, and all others.
CORE: dict[str, tuple[tuple[torch.Tensor, ...], dict[str, Any]]] = {
    "anomaly_map": ((batch(), batch(seed=1)), {}),
    "anomaly_score": ((batch(1),), {}),
    "append_position_code": ((batch(),), {"grid": (2, 3)}),
    "foreign_patch": ((batch(), batch(seed=1), uniform(3)), {}),
    "small_affine": ((batch(), uniform(3)), {}),
    "smooth_map": ((batch(1).abs(),), {"sigma": 1.5}),
}
each_function = pytest.mark.parametrize("name", CORE)


def test_every_function_of_the_core_has_a_row():
    missing = set(functional.__all__) - CORE.keys()
    assert not missing, f"add a row to CORE, with its arguments, for: {', '.join(sorted(missing))}"


def tensors(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


@each_function
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_core_is_pure_and_keeps_the_type(name, dtype):
    arguments, settings = CORE[name]
    given = [argument.to(dtype) for argument in arguments]
    before = [argument.clone() for argument in given]
    results = tensors(getattr(functional, name)(*given, **settings))
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))
    assert all(result.dtype == dtype and len(result) == 3 for result in results)
    again = tensors(getattr(functional, name)(*given, **settings))
    assert all(torch.equal(one, other) for one, other in zip(results, again, strict=True))


@each_function
def test_core_on_a_batch_is_the_core_on_each_image(name):
    arguments, settings = CORE[name]
    function = getattr(functional, name)
    together = tensors(function(*arguments, **settings))
    for i in range(3):
        alone = tensors(function(*(argument[i : i + 1] for argument in arguments), **settings))
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[i], rtol=0, atol=1e-6)


def test_core_compiles_as_one_graph():
    def everything(rows: dict[str, tuple[torch.Tensor, ...]]) -> list[tuple[torch.Tensor, ...]]:
        return [tensors(getattr(functional, name)(*rows[name], **CORE[name][1])) for name in CORE]

    rows = {name: arguments for name, (arguments, _) in CORE.items()}
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(rows), everything(rows), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@each_function
def test_core_passes_gradients_to_its_images(name):
    arguments, settings = CORE[name]
    image = arguments[0].clone().requires_grad_()
    result = tensors(getattr(functional, name)(image, *arguments[1:], **settings))[0]
    (gradient,) = torch.autograd.grad(result.square().sum(), image)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
