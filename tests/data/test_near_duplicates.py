"""Copies are found, whatever was done to them, and images of others are not taken for copies."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from monai_sagan.data import near_duplicates as module
from monai_sagan.data.datasets.phantom import PHANTOM_COUNTS, phantom_image
from monai_sagan.data.near_duplicates import BEST, NEAR, Thumbnails, near_duplicates, sampling_step


def as_pixels(pictures, side=64):
    return torch.stack([torch.from_numpy(np.array(picture.resize((side, side)))) for picture in pictures])[:, None]


def pairs(found):
    return [(i, j) for i, j, _ in found]


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(phantom_image(0, i, abnormal=bool(i % 2))[0]) for i in range(30)]


def as_jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=50)
    return Image.open(stream).convert("L")


def with_gamma(power):
    return lambda image: image.point([round(255 * (value / 255) ** power) for value in range(256)])


def with_contrast(slope, shift):
    return lambda image: image.point([round(min(max(slope * v + shift, 0), 255)) for v in range(256)])


def with_noise(image):
    noise = np.random.default_rng(0).normal(0, 8, (64, 64))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def cropped(left, top, share=0.05):
    """Without so much of its sides, of which so much goes at the left and at the top."""

    def change(image):
        side, gone = image.width, share * image.width
        box = (left * gone, top * gone, side - (1 - left) * gone, side - (1 - top) * gone)
        return image.resize(image.size, Image.Resampling.BICUBIC, box)

    return change


COPIES = {
    "the same": lambda image: image,
    "jpeg": as_jpeg,
    "smaller and back": lambda image: image.resize((40, 40), Image.Resampling.LANCZOS).resize((64, 64)),
    "larger": lambda image: image.resize((200, 200), Image.Resampling.BICUBIC),
    "cropped in the middle": cropped(0.5, 0.5),
    "cropped at the left": cropped(1, 0.5),
    "cropped at a corner": cropped(0, 1),
    "cropped a little": cropped(1, 1, share=0.02),
    "brighter": with_contrast(1.1, 8),
    "paler": with_contrast(0.8, 30),
    "lower gamma": with_gamma(0.7),
    "higher gamma": with_gamma(1.4),
    "noise": with_noise,
    "inverted": ImageOps.invert,
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by a quarter": lambda image: image.rotate(90),
    "turned by half": lambda image: image.rotate(180),
    "turned by three quarters, inverted": lambda image: ImageOps.invert(image.rotate(270)),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "transversed jpeg": lambda image: as_jpeg(image.transpose(Image.Transpose.TRANSVERSE)),
    "inverted jpeg": lambda image: as_jpeg(ImageOps.invert(image)),
    "cropped jpeg": lambda image: as_jpeg(cropped(0, 0)(image)),
    "all at once": lambda image: as_jpeg(ImageOps.mirror(with_gamma(0.8)(ImageOps.invert(image)))),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_nothing_else(pictures, change):
    found = near_duplicates(as_pixels(pictures), as_pixels(map(change, pictures)))
    assert pairs(found) == [(i, i) for i in range(len(pictures))]
    assert all(NEAR <= likeness <= 1 + 1e-5 for *_, likeness in found)


@pytest.mark.parametrize("change", [cropped(0, 0.5), as_jpeg], ids=["cropped", "jpeg"])
def test_either_may_be_the_copy(pictures, change):
    found = near_duplicates(as_pixels(map(change, pictures)), as_pixels(pictures))
    assert pairs(found) == [(i, i) for i in range(len(pictures))]


@pytest.mark.parametrize("turn", [*Image.Transpose])
def test_turned_copies_may_be_left_out(pictures, turn):
    turned = as_pixels(picture.transpose(turn) for picture in pictures)
    assert near_duplicates(as_pixels(pictures), turned, turned=False) == []


def test_no_two_phantoms_are_taken_for_copies():
    """Of those that the bundle's first run draws."""
    groups = np.repeat([*PHANTOM_COUNTS], [*PHANTOM_COUNTS.values()])
    kinds = [group.endswith("_abnormal") for group in np.random.default_rng(0).permutation(groups)]
    pixels = torch.stack([torch.from_numpy(phantom_image(0, i, kind)[0]) for i, kind in enumerate(kinds)])[:, None]
    assert pairs(near_duplicates(pixels, pixels)) == [(i, i) for i in range(len(pixels))]


def radiographs(folder, pattern):
    paths = sorted((folder / "images").glob(pattern))
    return [path.stem for path in paths], as_pixels([Image.open(path) for path in paths])


def test_real_radiographs_of_different_patients_are_not_alike(real_data):
    names, pixels = radiographs(real_data / "kermany", "*.png")
    found = [(names[i], names[j]) for i, j in pairs(near_duplicates(pixels, pixels)) if i < j]
    assert found == [  # these three pairs have the very same pixels
        ("train_normal_0126", "train_normal_0127"),
        ("train_normal_0274", "train_normal_0275"),
        ("unlabeled_normal_0066", "unlabeled_normal_0067"),
    ]


def test_real_radiographs_that_are_inverted_or_mirrored(real_data):
    """Each is like its own copy, and like no other: left and right of a chest are not alike enough."""
    _, pixels = radiographs(real_data / "kermany", "test_*.png")
    for changed in (255 - pixels[:120], pixels[:120].flip(-1), 255 - pixels[:120].flip(-1)):
        assert pairs(near_duplicates(pixels[:120], changed)) == [(i, i) for i in range(120)]


@pytest.mark.parametrize("block", [7, 16])
def test_blocks_change_nothing(pictures, monkeypatch, block):
    one, other = as_pixels(pictures), as_pixels(map(as_jpeg, pictures))
    wanted = near_duplicates(one, other)
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "PAIRS", 3)
    assert near_duplicates(Thumbnails(one), other) == [(i, j, pytest.approx(likeness)) for i, j, likeness in wanted]


def test_large_sets_are_sampled(pictures, monkeypatch):
    """Of the first images every second one is compared, so that the pairs stay below the limit."""
    pixels = as_pixels(pictures)
    monkeypatch.setattr(module, "LIMIT", len(pictures) ** 2 // 2)
    assert sampling_step(len(pictures), len(pictures)) == 2
    assert pairs(near_duplicates(pixels, pixels)) == [(i, i) for i in range(0, len(pictures), 2)]


def test_a_set_of_look_alikes_is_aligned_a_few_times_an_image(pictures):
    """Else it would take the square of their number."""
    noise = torch.randint(0, 9, (40, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    alike = (as_pixels(pictures[:1]).int() + noise).clamp(0, 255).byte()
    found = near_duplicates(alike, alike)
    assert {j for _, j, _ in found} == set(range(40))
    assert len(found) == 40 * BEST


def test_any_size_and_color(pictures):
    grey = as_pixels(pictures[:4])
    assert pairs(near_duplicates(grey, grey.expand(-1, 3, -1, -1))) == [(i, i) for i in range(4)]
    for side in (40, 48, 128):
        assert pairs(near_duplicates(grey, as_pixels(pictures[:4], side))) == [(i, i) for i in range(4)]


def test_images_without_any_structure_are_alike_to_none():
    constant = torch.full((3, 1, 64, 64), 7, dtype=torch.uint8)
    assert near_duplicates(constant, constant) == []
    assert near_duplicates(constant[:0], constant) == []
    assert near_duplicates(constant, constant[:0]) == []


def test_likeness_is_that_of_aligned_pictures(pictures):
    """A window that was cut out is put back where it was: what is left are the pixels that were resampled."""
    for window in (cropped(0.5, 0.5), cropped(0, 1), cropped(0.8, 0.1, share=0.04)):
        found = near_duplicates(as_pixels(pictures), as_pixels(map(window, pictures)))
        assert min(likeness for *_, likeness in found) > 0.96
        assert not any(math.isnan(likeness) for *_, likeness in found)
