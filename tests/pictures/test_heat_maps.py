"""Heat maps: which images, on which scale, under which names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from monai_sagan.models.scorer import Scorer
from monai_sagan.models.trained import load_trained
from monai_sagan.pictures import heat_maps
from monai_sagan.pictures.heat_maps import pick_images, triptychs, write_gallery, write_heatmaps
from monai_sagan.pictures.maps import map_words
from monai_sagan.pictures.notice import RESEARCH_ONLY, add_notice


def test_highest_middle_and_lowest():
    scores = torch.randperm(100, generator=torch.Generator().manual_seed(0)).float()
    picked = pick_images(scores, 3)
    assert scores[picked].tolist() == [99, 98, 97, 51, 50, 49, 2, 1, 0]
    assert len(pick_images(scores)) == 12


@pytest.mark.parametrize(("count", "total"), [(4, 0), (4, 1), (4, 3), (4, 5), (4, 11), (4, 12), (50, 20), (2, 7)])
def test_few_images_are_picked_once(count, total):
    scores = torch.rand(total, generator=torch.Generator().manual_seed(1))
    picked = pick_images(scores, count)
    assert len(picked) == len(set(picked)) == min(total, 3 * count)
    assert {*scores.argsort()[:count].tolist(), *scores.argsort()[total - min(count, total) :].tolist()} <= set(picked)
    assert scores[picked].tolist() == sorted(scores[picked].tolist(), reverse=True)


def test_none_and_equal_scores():
    assert pick_images(torch.rand(9), 0) == []
    assert pick_images(torch.zeros(5), 1) == [0, 2, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_triptychs(channels):
    image = torch.full((2, channels, 8, 6), -1.0)
    restored = torch.full((2, channels, 8, 6), 2.0)  # out of range
    maps = torch.zeros(2, 1, 8, 6)
    maps[1] = 0.5
    shown = triptychs(image, restored, maps, scale=0.25)
    assert shown.shape == (2, 3, 8, 18)
    assert (shown.min(), shown.max()) == (0, 1)
    assert (shown[..., :6] == 0).all()
    assert (shown[..., 6:12] == 1).all()
    colors = colormaps["inferno"](range(256))[:, :3]
    np.testing.assert_allclose(shown[0, :, 0, 12], colors[0], atol=1e-6)
    np.testing.assert_allclose(shown[1, :, 0, 12], colors[255], atol=1e-6)
    half = triptychs(image, restored, maps, scale=1.0)
    np.testing.assert_allclose(half[1, :, 0, 12], colors[127], atol=1e-6)
    assert triptychs(image, restored, maps, scale=0.0).isfinite().all()


@pytest.fixture
def draw(tmp_path, save_model, random_pixels):
    """Draw the maps of noise images; what an item has besides may be given."""
    save_model(tmp_path / "model.pt")
    trained = load_trained(tmp_path / "model.pt")
    pixels = random_pixels(9)

    def drawn(folder, names=None, labels=None, count=2):
        names = names or [f"/somewhere/image{i}.png" for i in range(9)]
        labels = labels or [0, 1, None] * 3
        items = [{"image": name, "label": label} for name, label in zip(names, labels, strict=True)]
        return write_heatmaps(folder, trained, pixels[: len(items)], items, drawn.scores[: len(items)], count)

    drawn.trained = trained
    drawn.scores = Scorer(trained.network, (64, 64)).score(pixels)
    return drawn


def test_names_tell_rank_and_label(tmp_path, draw):
    paths = draw(tmp_path / "out" / "heatmaps")
    assert sorted(paths) == sorted((tmp_path / "out" / "heatmaps").iterdir())
    assert [path.parent for path in (tmp_path / "out").iterdir()] == [tmp_path / "out"]  # nothing unfinished is left
    order = draw.scores.argsort(descending=True).tolist()
    kinds = {0: "normal", 1: "abnormal", 2: "unlabeled"}
    ranks = [1, 2, 4, 5, 8, 9]
    assert [path.name for path in paths] == [f"{r}_{kinds[order[r - 1] % 3]}_image{order[r - 1]}.png" for r in ranks]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width > 2 * picture.height
            assert np.asarray(picture.convert("L")).std() > 10


def test_ranks_sort_as_names(tmp_path, draw):
    items = [{"image": f"{i}.png", "label": 0} for i in range(120)]
    pixels = torch.zeros(120, 1, 64, 64, dtype=torch.uint8)
    paths = write_heatmaps(tmp_path / "maps", draw.trained, pixels, items, torch.arange(120).float(), 3)
    assert [int(re.match(r"\d{3}", path.name)[0]) for path in paths] == [1, 2, 3, 59, 60, 61, 118, 119, 120]
    assert paths == sorted(paths)


def test_the_bar_says_how_the_maps_were_made():
    words = map_words({"passes": 4, "smoothing": "gaussian", "sigma": 2.0})
    figure, _ = heat_maps._figure((64, 64), 0.5, words)
    lines = figure.axes[-1].get_ylabel().splitlines()
    assert lines[:-1] == words.split(", ")
    assert max(map(len, lines)) < 50  # the bar's height has no more room


def test_the_title_says_what_is_shown(tmp_path, draw):
    first, *others = draw(tmp_path / "maps")
    assert len(others) == 5
    best = int(draw.scores.argmax())
    with Image.open(first) as picture:
        title = picture.text["Title"]
    assert f"image{best}.png" in title
    assert f"{float(draw.scores[best]):.4f}, 1 of 9" in title


def test_pictures_show_the_scale(tmp_path, draw):
    heat_maps._figure.cache_clear()
    draw(tmp_path / "maps", count=1)
    assert heat_maps._figure.cache_info().misses == 1  # laid out once, for all pictures
    _, panels = heat_maps._figure((64, 64), draw.trained.scale, "|image - restored| / 2", True)
    assert heat_maps._figure.cache_info().misses == 1
    assert [panel.get_clim() for panel in panels] == [(0, 1), (0, 1), (0, draw.trained.scale)]


def test_pictures_say_what_they_are_for():
    figure, panels = heat_maps._figure((64, 64), 0.5, "|image - restored| / 2")
    (words,) = (text for text in figure.texts if text.get_text() == RESEARCH_ONLY)
    figure.canvas.draw()
    assert words.get_window_extent().y0 > 0
    assert words.get_window_extent().y1 < min(panel.axes.get_window_extent().y0 for panel in panels)


@pytest.mark.parametrize("size", [(48, 16), (192, 64), (1536, 512)])
def test_a_notice_below_a_picture(size):
    picture = Image.effect_noise(size, 50).convert("RGB")
    shown = add_notice(picture)
    assert shown.width == max(size[0], shown.width if size[0] < 70 else 0)
    np.testing.assert_array_equal(np.asarray(shown)[: size[1], : size[0]], np.asarray(picture))
    below = np.asarray(shown)[size[1] :, :, 0] > 100
    rows = np.flatnonzero(below.any(1))
    assert rows[-1] - rows[0] >= max(7, size[0] // 24)  # high enough to be read
    assert not below[[0, -1]].any()
    assert not below[:, [0, -1]].any()


def test_a_picture_has_nothing_of_the_one_before(tmp_path, random_pixels):
    """One figure draws all of them."""
    first, second = (random_pixels(1, seed=seed) / 127.5 - 1 for seed in (0, 1))
    lesion = np.array([[8, 8, 40, 8]])
    heat_maps._draw(tmp_path / "first.png", (first, first, first.abs()), 0.5, "a long title", lesions=lesion)
    heat_maps._draw(tmp_path / "second.png", (second, second, second.abs()), 0.5, "second")
    heat_maps._figure.cache_clear()
    heat_maps._draw(tmp_path / "alone.png", (second, second, second.abs()), 0.5, "second")
    first_png, second_png, alone = ((tmp_path / f"{name}.png").read_bytes() for name in ("first", "second", "alone"))
    assert second_png == alone != first_png


def test_without_restored_images_there_are_two_panels(tmp_path):
    image = torch.linspace(-1, 1, 64 * 48).reshape(1, 1, 64, 48)
    assert heat_maps.triptychs(image, None, image.abs(), 0.5).shape == (1, 3, 64, 96)
    _, panels = heat_maps._figure((64, 48), 0.5, "", restored=False)
    assert [panel.axes.get_title() for panel in panels] == ["image", "anomaly map"]
    heat_maps._draw(tmp_path / "a.png", (image, None, image.abs()), 0.5, "a title")
    with Image.open(tmp_path / "a.png") as picture:
        middle = np.asarray(picture.convert("L"))[80:330, 310:540]
    assert (middle == 255).all()


def test_another_run_has_its_own_scale(tmp_path):
    pixels = torch.linspace(-1, 1, 64 * 64).reshape(1, 1, 64, 64)
    for name, scale in {"a": 0.5, "b": 0.1, "c": 0.5}.items():
        heat_maps._draw(tmp_path / f"{name}.png", (pixels, pixels, pixels.abs()), scale, "a title")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == c != b


def test_known_lesions_are_outlined(tmp_path, draw, random_pixels):
    """On image and map, in a color that neither has; in the gallery its list has them, not the pictures."""
    color = np.array([0x7F, 0xE7, 0xFF])
    known = ({"label": 0}, {"label": 1, "boxes": [[8, 16, 24, 32]]})
    items = [{"image": f"{i}.png", "size": [64, 64]} | known[i % 2] for i in range(9)]
    for path in write_heatmaps(tmp_path, draw.trained, random_pixels(9), items, draw.scores, 3):
        with Image.open(path) as picture:
            found = np.abs(np.asarray(picture.convert("RGB")).astype(int) - color).max(-1) < 8
        thirds = [part.any() for part in np.array_split(found[:, : int(0.85 * found.shape[1])], 3, axis=1)]
        assert thirds == [True, False, True] if "abnormal" in path.name else not any(thirds)
    write_gallery(tmp_path, draw.trained, random_pixels(9), items, draw.scores, torch.ones(9), None)
    facts = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert {fact["label"] for fact in facts} == {0, 1}
    assert all(("lesions" in fact) == (fact["label"] == 1) for fact in facts)
    assert {fact["lesions"] for fact in facts if fact["label"]} == {"M8 16L8 48M32 16L32 48M8 16L32 16M8 48L32 48"}


def test_gallery(tmp_path, draw, random_pixels):
    items = [{"image": f"/somewhere/{i}.png", "label": i % 2} for i in range(9)]
    p_values = torch.linspace(0, 1, 9)
    middle = float(draw.scores.median())
    write_gallery(tmp_path, draw.trained, random_pixels(9), items, draw.scores, p_values, middle, count=2)
    facts = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    for fact in facts:
        index = int(Path(fact["image"]).stem)
        assert fact["score"] == float(draw.scores[index])
        assert fact["p_value"] == float(p_values[index])
        assert fact["label"] == index % 2
        if fact["kind"] == "false positive":
            assert fact["score"] > middle
            assert fact["label"] == 0
        with Image.open(tmp_path / "gallery" / fact["file"]) as picture:
            assert (picture.width, picture.mode) == (192, "RGB")
            assert np.asarray(picture)[64:].max() > 200  # words below the panels
            left = np.asarray(picture)[:64, :64, 0].astype(int)
        assert abs(left - random_pixels(9)[index, 0].numpy()).max() <= 1
    assert len({fact["image"] for fact in facts}) == len(facts)
    assert {fact["kind"] for fact in facts} >= {"false positive", "false negative", "middle"}


def test_an_earlier_folder_is_replaced(tmp_path, draw):
    folder = tmp_path / "maps"
    (folder / "older").mkdir(parents=True)
    (folder / "older.png").touch()
    paths = draw(folder, count=1)
    assert sorted(folder.iterdir()) == sorted(paths)


def test_a_full_disk_keeps_the_earlier_folder(tmp_path, draw, small_files):
    folder = tmp_path / "maps"
    before = draw(folder, count=1)
    with small_files(1000), pytest.raises(OSError, match="File too large"):
        draw(folder, count=2)
    assert sorted(folder.iterdir()) == sorted(before)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["maps"]


def test_odd_names(tmp_path, draw):
    names = ["a$b_$x^.png", "$\\alpha.png", "deep/one.two.nii.gz", "same.png", "other/same.png", "100 %.png"]
    paths = draw(tmp_path / "maps", names, [0] * 6, count=2)
    assert len(set(paths)) == len(list((tmp_path / "maps").iterdir())) == 6
    assert {path.name.split("_", 2)[2] for path in paths} == {f"{Path(name).stem}.png" for name in names}
