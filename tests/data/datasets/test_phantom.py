from __future__ import annotations

import io
import itertools
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter

from monai_sagan.data.datasets import phantom
from monai_sagan.data.datasets.phantom import PHANTOM_COUNTS, lesion_boxes, phantom_image, read_phantom, write_phantom
from monai_sagan.errors import SaganError

FEW = dict.fromkeys(PHANTOM_COUNTS, 3)


def file_size(image, kind):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.tell()


TRIVIAL_SCORES = {
    "mean": np.mean,
    "sd": np.std,
    "maximum": np.max,
    "minimum": np.min,
    "median": np.median,
    "percentile 5": lambda image: np.percentile(image, 5),
    "percentile 95": lambda image: np.percentile(image, 95),
    "PNG size": lambda image: file_size(image, "PNG"),
    "JPEG size": lambda image: file_size(image, "JPEG"),
}
QUANTILES = ("median", "percentile 5", "percentile 95")


@pytest.fixture(scope="module")
def normal():
    return [phantom_image(0, index, False) for index in range(200)]


@pytest.fixture(scope="module")
def abnormal():
    return [phantom_image(0, index, True) for index in range(200, 400)]


@pytest.fixture
def count_draws(monkeypatch):
    """Replace the drawing by a quick one and count its calls."""
    calls = []

    def draw(seed, index, abnormal, image_size):
        calls.append((index, abnormal))
        image = np.full((image_size, image_size), 255 * abnormal, np.uint8)
        return image, image > 0

    monkeypatch.setattr(phantom, "phantom_image", draw)
    return calls


def names_of(splits):
    groups = [splits["train"]["0"], *splits["train"]["unlabeled"].values(), *splits["test"].values()]
    return [name for group in groups for name in group]


def test_arguments_alone_decide():
    first, second = phantom_image(3, 5, True), phantom_image(3, 5, True)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    images = [phantom_image(seed, index, False)[0] for seed, index in ((3, 5), (3, 6), (4, 5), (5, 3), (5, 4))]
    assert all((one != other).any() for one, other in pairwise(images))


@pytest.mark.parametrize("size", [16, 33, 64, 128])
def test_any_size(size):
    for index, is_abnormal in enumerate([False, True] * 4):
        image, mask = phantom_image(1, index, is_abnormal, size)
        assert (image.shape, image.dtype) == ((size, size), np.uint8)
        assert (mask.shape, mask.dtype) == ((size, size), bool)
        assert image.max() == 255
        assert mask.any() == is_abnormal


def test_size_only_changes_the_sampling():
    for index in range(5):
        small, large = (phantom_image(2, index, True, size) for size in (64, 128))
        for picture, finer in zip(small, large, strict=True):
            shrunk = finer.reshape(64, 2, 64, 2).mean((1, 3))
            assert np.corrcoef(picture.ravel(), shrunk.ravel())[0, 1] > 0.9


def test_lesions_keep_the_patient():
    for index in range(20):
        (well, _), (ill, mask) = phantom_image(0, index, False), phantom_image(0, index, True)
        around = np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(13))) > 0
        assert np.corrcoef(well[~around], ill[~around])[0, 1] > 0.97


def test_masks_cover_a_plausible_area(normal, abnormal):
    assert not any(mask.any() for _, mask in normal)
    cover = np.array([mask.mean() for _, mask in abnormal])
    assert cover.min() >= 0.005
    assert cover.max() <= 0.12


def test_lesions_brighten_the_lung():
    brighter = []
    for index in range(50):
        (well, _), (ill, mask) = phantom_image(0, index, False), phantom_image(0, index, True)
        brighter.append(ill[mask].mean() - well[mask].mean())
    assert np.mean(brighter) > 15
    assert min(brighter) > 0


@pytest.mark.parametrize("name", TRIVIAL_SCORES)
def test_no_trivial_score_separates(name, normal, abnormal):
    low, high = (np.array([float(TRIVIAL_SCORES[name](image)) for image, _ in group]) for group in (normal, abnormal))
    auc = np.mean((high[:, None] > low) + 0.5 * (high[:, None] == low))
    # an opacity is bright where lungs are dark: quantiles cannot but shift a little
    bound = 0.70 if name in QUANTILES else 0.60
    assert max(auc, 1 - auc) <= bound


def test_layout(tmp_path):
    folder = write_phantom(tmp_path / "new" / "phantom", seed=4, image_size=20, counts=FEW | {"test_normal": 5})
    splits = json.loads((folder / "data.json").read_text())
    names = names_of(splits)
    assert splits.keys() == {"train", "test"}
    assert splits["train"].keys() == {"0", "unlabeled"}
    assert splits["train"]["unlabeled"].keys() == splits["test"].keys() == {"0", "1"}
    assert len(splits["test"]["0"]) == 5
    assert sorted(names) == sorted(path.name for path in (folder / "images").iterdir())
    assert sorted(names) == [f"{index:06d}.png" for index in range(17)]
    name = splits["test"]["1"][0]
    stored = np.asarray(Image.open(folder / "images" / name))
    np.testing.assert_array_equal(stored, phantom_image(4, int(name[:-4]), True, 20)[0])
    assert json.loads((folder / "phantom.json").read_text())["seed"] == 4


def test_pictures_are_those_of_version_3():
    """Figures that were measured on phantoms stay true: the generator of random numbers is numpy's, for all systems."""
    image, mask = phantom_image(0, 3, True)
    known = [[0, 0, 180, 0], [126, 46, 189, 125], [48, 124, 184, 39], [0, 172, 206, 157]]
    np.testing.assert_allclose(image[::16, ::16].astype(int), known, rtol=0, atol=1)  # processors round differently
    assert mask.sum() == 370


def test_masks_and_boxes_on_disk(tmp_path):
    folder = write_phantom(tmp_path / "phantom", seed=1, image_size=32, counts=FEW)
    items, splits = (json.loads((folder / name).read_text()) for name in ("items.json", "data.json"))
    assert sorted(items) == sorted(names_of(splits))
    abnormal = {*splits["train"]["unlabeled"]["1"], *splits["test"]["1"]}
    assert {path.name for path in (folder / "masks").iterdir()} == abnormal
    for name, item in items.items():
        if name not in abnormal:
            assert item == {"boxes": []}
            continue
        assert item["mask"] == f"masks/{name}"
        stored = Image.open(folder / item["mask"])
        mask = phantom_image(1, int(name[:-4]), True, 32)[1]
        assert (stored.mode, stored.size) == ("L", (32, 32))
        np.testing.assert_array_equal(np.asarray(stored), np.where(mask, 255, 0))
        assert item["boxes"] == lesion_boxes(mask) != []
        covered = np.zeros_like(mask)
        for x, y, w, h in item["boxes"]:
            part = mask[y : y + h, x : x + w]
            assert part.shape == (h, w)
            assert all(side.any() for side in (part[0], part[-1], part[:, 0], part[:, -1]))  # it fits tightly
            covered[y : y + h, x : x + w] = True
        assert covered[mask].all()


def test_boxes_are_of_connected_parts():
    mask = np.zeros((8, 10), dtype=bool)
    mask[1:3, 2:5] = mask[6, 8] = mask[7, 9] = True  # the last two share a corner
    assert lesion_boxes(mask) == [[2, 1, 3, 2], [8, 6, 2, 2]]
    assert lesion_boxes(np.zeros((8, 10), dtype=bool)) == []


def test_another_version_is_named(tmp_path, count_draws, refused):
    folder = write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    note = folder / "phantom.json"
    older = json.dumps(json.loads(note.read_text()) | {"version": 1})
    for text, make in itertools.product((older, "broken", "[]"), (write_phantom, read_phantom)):
        note.write_text(text)
        with refused(folder, "another version", "name a new folder or delete it"):
            make(folder, image_size=16)


def test_a_dataset_of_ones_own_is_read(tmp_path, count_draws):
    folder = write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    (folder / "phantom.json").unlink()
    assert len(read_phantom(folder)["test"]) == 6


def test_names_do_not_tell_the_class(tmp_path, count_draws):
    write_phantom(tmp_path / "phantom", image_size=16)
    index, is_abnormal = np.array(count_draws).T
    assert abs(np.corrcoef(index, is_abnormal)[0, 1]) < 0.1


def test_second_call_does_nothing(tmp_path, count_draws):
    first = write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    written = len(count_draws)
    assert write_phantom(tmp_path / "phantom", image_size=16, counts=FEW) == first
    assert len(count_draws) == written == 15


def test_other_content_is_never_overwritten(tmp_path, count_draws):
    folder = write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    for other in ({"seed": 1}, {"image_size": 17}, {"counts": FEW | {"test_normal": 4}}):
        with pytest.raises(SaganError, match="holds something else"):
            write_phantom(folder, **{"image_size": 16, "counts": FEW} | other)
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(SaganError, match="holds something else"):
            write_phantom(path, image_size=16, counts=FEW)
    assert len(count_draws) == 15


def test_empty_folder_is_taken(tmp_path, count_draws):
    assert (write_phantom(tmp_path, image_size=16, counts=FEW) / "data.json").is_file()


def test_groups_are_checked(tmp_path):
    with pytest.raises(SaganError, match="test_abnormal"):
        write_phantom(tmp_path / "phantom", counts={"test_normal": 3})


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def draw(seed, index, abnormal, image_size):
        if index == 7:
            raise KeyboardInterrupt
        return phantom_image(seed, index, abnormal, image_size)

    monkeypatch.setattr(phantom, "phantom_image", draw)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_at_once(tmp_path, monkeypatch, count_draws):
    draw_all = phantom._draw_all

    def slower(*args):
        monkeypatch.setattr(phantom, "_draw_all", draw_all)
        write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
        draw_all(*args)

    monkeypatch.setattr(phantom, "_draw_all", slower)
    folder = write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    assert len(count_draws) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["phantom"]
    assert len(names_of(json.loads((folder / "data.json").read_text()))) == 15


def test_a_full_disk(tmp_path, small_files, refused):
    with small_files(100), refused(tmp_path / "phantom", "File too large", "make room"):
        write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)
    assert list(tmp_path.iterdir()) == []


def test_other_failures_of_the_system_are_shown(tmp_path, monkeypatch, count_draws, refused):
    def refuse(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr(phantom.os, "replace", refuse)
    with refused(tmp_path / "phantom", "read-only"):
        write_phantom(tmp_path / "phantom", image_size=16, counts=FEW)


def test_read_writes_first(tmp_path, count_draws):
    items = read_phantom(tmp_path / "phantom", seed=2, image_size=16)
    assert len(count_draws) == sum(PHANTOM_COUNTS.values())
    assert read_phantom(tmp_path / "phantom", seed=2, image_size=16) == items
    assert len(count_draws) == sum(PHANTOM_COUNTS.values())
