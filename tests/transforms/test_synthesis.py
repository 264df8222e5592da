"""Synthetic anomalies."""

from __future__ import annotations

import math

import pytest
import torch

from monai_sagan.transforms.medians import majority
from monai_sagan.transforms.placing import DRAWS, PATCHES, choose_patches, width_bounds
from monai_sagan.transforms.synthesis import CUTPASTE, FPI, NSA, PII, UNIFORM_NUMBERS, synthesize

RECIPES = {"cutpaste": CUTPASTE, "fpi": FPI, "pii": PII, "nsa": NSA}
each = pytest.mark.parametrize("name", RECIPES)


def uniform(count=8, seed=0):
    return torch.rand(count, UNIFORM_NUMBERS, generator=torch.Generator().manual_seed(seed))


def bodies(count=8, size=64, channels=1, seed=0):
    """Smooth textures in [-1, 1] within an ellipse, black outside, in 256 grey levels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, size // 8, size // 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    place = torch.linspace(-1, 1, size)
    inside = place[:, None] ** 2 + (place / 0.8) ** 2 < 1
    return ((60 + 180 * image) * inside).round() / 127.5 - 1


def levels(image):
    return ((image + 1) * 127.5).round()


def made(name, size=64, channels=1, **more):
    image, source = bodies(size=size, channels=channels), bodies(size=size, channels=channels, seed=1)
    return image, source, *synthesize(image, source, uniform(), RECIPES[name], **more)


@each
@pytest.mark.parametrize(("size", "channels"), [(64, 1), (96, 3), (224, 1)])
def test_what_comes_out(name, size, channels):
    image, _, result, label = made(name, size, channels)
    assert result.shape == image.shape
    assert label.shape == (8, 1, size, size)
    assert result.dtype == label.dtype == torch.float32
    assert -1 - 1e-6 <= result.min() <= result.max() <= 1 + 1e-6
    assert 0 <= label.min() <= label.max() <= 1
    assert (label > 0).any(-1).any(-1).sum() >= 6  # patches that differ too little are not labeled
    assert (label > 0).float().mean() < 0.5


@each
def test_pixels_stay_or_are_whole_grey_levels(name):
    image, _, result, label = made(name)
    untouched = result == image
    assert 0.3 < untouched.float().mean() < 1
    values = (result + 1) * 127.5
    torch.testing.assert_close(values, values.round(), atol=1e-3, rtol=0)
    assert not label[~_near(levels(result) != levels(image))].any()  # labels are where something changes


def _near(changed):
    """With the pixels beside it, for medians close small gaps."""
    return torch.nn.functional.max_pool2d(changed.float(), 3, 1, 1).bool()


@each
def test_it_is_a_function_of_its_draws(name):
    state = torch.get_rng_state()
    *_, result, label = made(name)
    *_, again, label_again = made(name)
    assert torch.equal(result, again)
    assert torch.equal(label, label_again)
    assert torch.equal(torch.get_rng_state(), state)
    image, source = bodies(), bodies(seed=1)
    assert not torch.equal(synthesize(image, source, uniform(seed=1), RECIPES[name])[0], result)


@each
@pytest.mark.parametrize("fixed", [True, False])
def test_images_do_not_depend_on_each_other(name, fixed):
    image, source, draws = bodies(), bodies(seed=1), uniform()
    together = synthesize(image, source, draws, RECIPES[name], fixed=fixed)
    for i in (0, 3, 7):
        part = slice(i, i + 1)
        alone = synthesize(image[part], source[part], draws[part], RECIPES[name], fixed=fixed)
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[i], atol=0, rtol=0)


@each
@pytest.mark.parametrize("size", [64, 96])
def test_fixed_shapes_give_the_same(name, size):
    *_, result, label = made(name, size, fixed=False)
    *_, other, other_label = made(name, size, fixed=True)
    assert torch.equal(result, other)
    assert torch.equal(label, other_label)


@each
def test_the_source_of_a_batch_is_the_image_before(name):
    image, draws = bodies(), uniform()
    one = synthesize(image, None, draws, RECIPES[name])
    other = synthesize(image, image if RECIPES[name].own else image.roll(1, 0), draws, RECIPES[name])
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@each
def test_the_background_gets_no_anomaly(name):
    """Of what is labeled most lies on the body, and images without one stay as they are."""
    image, _, _, label = made(name)
    assert (label > 0)[image > -0.8].sum() > 0.7 * (label > 0).sum()
    dark = torch.full((8, 1, 64, 64), -1.0)
    result, label = synthesize(dark, dark, uniform(), RECIPES[name])
    assert torch.equal(result, dark)
    assert not label.any()


@each
def test_other_ranges_of_values(name):
    image, source, draws = bodies(), bodies(seed=1), uniform()
    expected, label = synthesize(image, source, draws, RECIPES[name])
    result, other = synthesize(levels(image), levels(source), draws, RECIPES[name], value_range=(0, 255))
    torch.testing.assert_close(result, levels(expected), atol=1e-3, rtol=0)
    assert torch.equal(label, other)


def test_cutpaste_moves_pixels_of_the_image_itself():
    image, _, result, label = made("cutpaste")
    other = synthesize(image, bodies(seed=2), uniform(), CUTPASTE)[0]
    assert torch.equal(result, other)  # whatever the source
    assert set(label.unique().tolist()) == {0.0, 1.0}
    for before, after in zip(levels(image), levels(result), strict=True):
        assert set(after.unique().tolist()) <= set(before.unique().tolist())


@pytest.mark.parametrize("name", ["fpi", "pii"])
def test_the_label_is_the_opacity(name):
    *_, label = made(name)
    for one, draw in zip(label, uniform()[:, 0], strict=True):
        values = one.unique()
        assert len(values) <= 2
        if len(values) == 2:
            assert values[1].item() == pytest.approx(0.05 + 0.9 * draw.item(), abs=1e-6)


def test_fpi_mixes_in_place():
    image, source, result, _ = made("fpi")
    opacity = (0.05 + 0.9 * uniform()[:, :1, None, None]).expand_as(image)
    where = (levels(result) - levels(image)).abs() > 1
    one_patch = uniform()[:, 1:3].min(1).values >= 0.5  # later patches mix in what earlier ones left
    expected = levels(image) + (opacity * (levels(source) - levels(image))).floor()
    where = where & one_patch[:, None, None, None]
    assert where.any()
    torch.testing.assert_close(levels(result)[where], expected[where], atol=1, rtol=0)


def test_labels_of_nsa_grow_with_the_change():
    image, _, result, label = made("nsa", 224)
    change = (levels(result) - levels(image)).abs()
    labeled = label > 0
    assert label[labeled].min() >= 1 / (1 + math.exp(2)) - 1e-6
    strong, weak = label[labeled & (change > 12)].mean(), label[labeled & (change < 4)].mean()
    assert strong > weak + 0.2


def test_clones_have_no_seams():
    """The step across a patch's border is much smaller than that of a hard copy."""

    def border_steps(name):
        image, _, result, _ = made(name, 96)
        added = levels(result) - levels(image)
        return torch.cat([added.diff(dim=-1).abs().flatten(), added.diff(dim=-2).abs().flatten()]).max().item()

    assert border_steps("pii") < 0.7 * border_steps("cutpaste")


def test_number_of_patches():
    """One always, a second and a third with probability 1/2 each."""
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.5
    draws = uniform(2)
    few, many = draws.clone(), draws.clone()
    few[:, 1:3], many[:, 1:3] = 0.5, 0.49
    areas = [(synthesize(image, image.roll(1, 0), d, FPI)[1] > 0).float().mean((1, 2, 3)) for d in (few, many)]
    assert (areas[0] > 0).all()
    assert (areas[1] > areas[0]).all()


# The choice of patches


def choose(objects, source_objects, shift=True, resize=True, fixed=False, seed=0):
    draws = torch.rand(len(objects), PATCHES, DRAWS, generator=torch.Generator().manual_seed(seed))
    wanted = torch.ones(len(objects), PATCHES, dtype=torch.bool)
    return choose_patches(objects, source_objects, draws, wanted, shift, resize, fixed)


def blobs(count=40, size=64, seed=0):
    noise = torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed))
    filled = torch.linspace(0.4, 0.6, count)[:, None, None]
    return majority((noise < filled).to(torch.uint8), 3)


def share(objects, top, left, height, width):
    return objects[top : top + height, left : left + width].float().mean().item()


@pytest.mark.parametrize(("side", "bounds"), [(64, (2, 26)), (224, (7, 90)), (256, (8, 102)), (1, (1, 1))])
def test_width_bounds(side, bounds):
    assert width_bounds(side) == bounds


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_patches_lie_on_the_object(shift, resize, fixed):
    objects, source = blobs(), blobs(seed=1)
    patches = choose(objects, source, shift, resize and shift, fixed)
    assert patches.valid.any()
    for i, p in patches.valid.nonzero().tolist():
        _, from_top, from_left, from_height, from_width, top, left, height, width = (int(x[i, p]) for x in patches)
        assert from_top >= 0
        assert from_left >= 0
        assert from_top + from_height <= 64
        assert from_left + from_width <= 64
        assert share(source[i], from_top, from_left, from_height, from_width) > 0.7
        if not shift:
            assert (top, left, height, width) == (from_top, from_left, from_height, from_width)
        else:
            assert top >= 1
            assert left >= 1
            assert top + height <= 64
            assert left + width <= 64
        if shift and not resize:
            assert (height, width) == (from_height, from_width)
            moved = source[i, from_top : from_top + height, from_left : from_left + width]
            below = objects[i, top : top + height, left : left + width]
            assert (moved & below).sum() > 0.7 * moved.sum()
        if shift and resize:
            assert 2 <= height <= 26
            assert 2 <= width <= 26


@pytest.mark.parametrize(("shift", "resize"), [(False, False), (True, False), (True, True)])
def test_stopping_at_a_success_changes_nothing(shift, resize):
    """Bodies that fill little of the image, so that many tries fail, in both ways to count what is covered."""
    objects, source = blobs(), blobs(seed=1)
    one, other = (choose(objects, source, shift, resize, fixed) for fixed in (True, False))
    assert torch.equal(one.valid, other.valid)
    for name, a, b in zip(one._fields, one, other, strict=True):
        assert torch.equal(a[one.valid], b[one.valid]), name
    assert not one.valid.all()
    assert one.valid.any()


def test_places_and_sizes_are_spread_as_published():
    everything = torch.ones(3000, 64, 64, dtype=torch.uint8)
    patches = choose(everything, everything, shift=True, resize=False)
    assert patches.valid.all()
    middle = (patches.from_top + patches.from_height / 2)[
        (patches.from_top > 0) & (patches.from_top + patches.from_height < 64)
    ]
    assert abs(middle.mean() - 31.5) < 1
    inner = patches.from_height[(patches.from_top > 0) & (patches.from_top + patches.from_height < 64)].float()
    assert set(inner.unique().long().tolist()) <= set(range(4, 53, 2))  # twice a half width
    assert 11 < inner.mean() < 14  # 2 * (.05 + .06) * 64, less for whole numbers and for what the border cuts
    assert patches.top.min() == 1
    assert (patches.top + patches.height).max() == 63


def test_resized_patches_keep_their_ratio_about():
    everything = torch.ones(2000, 224, 224, dtype=torch.uint8)
    patches = choose(everything, everything)
    scale = patches.height / patches.from_height
    larger, smaller = (x(patches.from_height, patches.from_width) for x in (torch.maximum, torch.minimum))
    large = (smaller > 40) & (larger < 70)  # far from the bounds of 7 and 90
    assert 0.65 < scale[large].min() < 0.75
    assert 1.25 < scale[large].max() < 1.35
    ratio = (patches.height / patches.width) / (patches.from_height / patches.from_width)
    assert (ratio[large] - 1).abs().max() < 0.06
