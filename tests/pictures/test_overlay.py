"""Pictures that say what they show: the image untouched, its map on the model's own scale, and words that fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from monai_sagan.pictures.notice import RESEARCH_ONLY
from monai_sagan.pictures.overlay import CONTOUR, GROUND, INK, LINE, MARGIN, SIDE, Colors, draw_overlay
from monai_sagan.predict.results import overlay_name

COLORS = Colors(scale=0.2, pixel_threshold=0.1)
GREY = np.full((SIDE, SIDE), 100, np.uint8)


def panels(picture, anomaly_map, colors=COLORS, title="name", words=()):
    """The picture and what is beside it, as arrays, of an image of full size."""
    drawn = np.asarray(draw_overlay(picture, anomaly_map, colors, title, words))
    bottom = drawn.shape[0] - MARGIN
    left = drawn[bottom - SIDE : bottom, MARGIN : MARGIN + SIDE]
    return left, drawn[bottom - SIDE : bottom, 2 * MARGIN + SIDE : 2 * MARGIN + 2 * SIDE]


def test_an_image_that_is_restored_perfectly_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
    plain, colored = panels(picture, np.zeros((64, 64), np.float32))
    assert (plain == picture[..., None]).all()
    assert (colored == picture[..., None]).all()


def test_colors_are_on_the_models_scale():
    half, top, above = (panels(GREY, np.full((8, 8), value, np.float32))[1] for value in (0.08, 0.2, 0.9))
    assert len(np.unique(half.reshape(-1, 3), axis=0)) == 1  # an even map has one color and no contour
    np.testing.assert_array_equal(top, above)
    away = [np.abs(shown.astype(int) - 100).sum() for shown in (half, top)]
    assert 0 < away[0] < away[1]
    other = panels(GREY, np.full((8, 8), 0.16, np.float32), Colors(0.4, 0.2))[1]
    np.testing.assert_array_equal(half, other)


def test_the_contour_is_around_what_is_above_the_threshold():
    anomaly_map = np.zeros((64, 64), np.float32)
    anomaly_map[16:32, 40:56] = 0.15
    colored = panels(GREY, anomaly_map)[1]
    rows, columns = np.nonzero((colored == CONTOUR).all(-1))
    scale = SIDE / 64
    assert rows.min() == pytest.approx(16 * scale, abs=scale)
    assert rows.max() == pytest.approx(32 * scale, abs=scale)
    assert columns.min() == pytest.approx(40 * scale, abs=scale)
    assert columns.max() == pytest.approx(56 * scale, abs=scale)
    inside = (colored[rows.min() : rows.max(), columns.min() : columns.max()] == CONTOUR).all(-1)
    assert inside.mean() < 0.2


def test_pictures_in_color():
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    plain, _ = panels(picture, np.zeros((64, 64), np.float32))
    assert (plain == picture).all()


@pytest.mark.parametrize("size", [(64, 64), (3000, 200), (7, 900), (1, 1)])
def test_any_size_with_any_words(size):
    anomaly_map = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    words = [("score 0.1, p = 0.05; above 0.09, the threshold for a specificity of 95 %", True)]
    short = draw_overlay(np.zeros(size, np.uint8), anomaly_map, COLORS, "name", words)
    long = draw_overlay(np.zeros(size, np.uint8), anomaly_map, COLORS, "long \u202e\n name/" * 40, words)
    assert short.size == long.size
    assert 512 < max(short.size) < 1300
    margin = np.asarray(long)[:, -4:]
    assert (margin == margin[0, 0]).all()  # the title does not run out of the picture


def test_words_are_on_the_picture():
    blank, said, loud = (
        np.asarray(draw_overlay(GREY, np.zeros((8, 8)), COLORS, "name", [(text, eye)]))
        for text, eye in (("", False), ("score 0.1", False), ("score 0.1", True))
    )
    assert (blank != said).any()
    assert (said != loud).any()
    top = blank.shape[0] - SIDE - MARGIN
    np.testing.assert_array_equal(blank[top:], said[top:])


@pytest.mark.parametrize("size", [(64, 64), (64, 7)])
def test_what_the_picture_is_for_is_on_it(size):
    drawn = np.asarray(draw_overlay(np.zeros(size, np.uint8), np.zeros((8, 8)), COLORS, "name", []))
    words = Image.new("RGB", (drawn.shape[1], LINE), GROUND)
    ImageDraw.Draw(words).text((MARGIN, 0), RESEARCH_ONLY, INK, ImageFont.load_default(16))
    np.testing.assert_array_equal(drawn[MARGIN + LINE : MARGIN + 2 * LINE], np.asarray(words))


def test_names_of_overlays_are_of_one_image_alone():
    images = [
        "a/x.png",
        "a_x.png",
        "b/x.png",
        "a/X.png",
        "x.nii.gz#z1",
        "x.nii.gz_z1",
        "\udcff.png",
        "?.png",
        "é" * 300,
    ]
    names = [overlay_name(image) for image in images]
    assert len({name.lower() for name in names}) == len(images)
    assert all(name.endswith(".png") and name.isascii() and len(name) < 100 for name in names)
    assert names[0].startswith("a_x.png-")
    assert not any(set(name) & set("/\\:?#") or name.startswith((".", "-")) for name in names)
