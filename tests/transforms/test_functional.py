"""The batched core of the transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from monai_sagan.networks.patches import position_code, split_patches
from monai_sagan.transforms.functional import (
    anomaly_map,
    anomaly_score,
    append_position_code,
    foreign_patch,
    small_affine,
    smooth_map,
)

ALMOST_1 = 1 - 2**-24  # the greatest float32 that torch.rand draws


def uniforms(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def edges(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the ones in a mask (1, H, W)."""
    rows, cols = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
    return rows.min().item(), rows.max().item(), cols.min().item(), cols.max().item()


@pytest.mark.parametrize("channels", [1, 3])
def test_foreign_patch_changes_the_square_alone(channels):
    image, source, draw = images(64, channels, 64, 64), images(64, channels, 64, 64, seed=1), uniforms(64)
    blended, mask = foreign_patch(image, source, draw)
    outside = (mask == 0).expand_as(image)
    assert torch.equal(blended[outside], image[outside])
    opacity = draw[:, 3, None, None, None]
    expected = (1 - opacity) * image + opacity * source
    torch.testing.assert_close(blended[~outside], expected[~outside])
    assert mask.shape == (64, 1, 64, 64)
    assert mask.unique().tolist() == [0, 1]


def test_square_is_full():
    for mask in foreign_patch(images(64, 1, 64, 64), images(64, 1, 64, 64, seed=1), uniforms(64))[1]:
        top, bottom, left, right = edges(mask)
        assert mask.sum() == (bottom - top + 1) * (right - left + 1)


@pytest.mark.parametrize(("size", "side"), [(0.0, 6), (ALMOST_1, 24)])
@pytest.mark.parametrize(("row", "y"), [(0.0, 12), (0.5, 31), (ALMOST_1, 50)])
@pytest.mark.parametrize(("col", "x"), [(0.0, 12), (0.5, 31), (ALMOST_1, 50)])
def test_square_at_the_ends_of_its_ranges(size, side, row, y, col, x):
    image = torch.zeros(1, 1, 64, 64)
    mask = foreign_patch(image, image, torch.tensor([[row, col, size, 0.5]]))[1][0]
    expected = [max(y - side // 2, 0), min(y + side // 2, 64) - 1, max(x - side // 2, 0), min(x + side // 2, 64) - 1]
    assert list(edges(mask)) == expected


def test_square_takes_every_center_and_size():
    image = torch.zeros(4000, 1, 64, 64)
    masks = foreign_patch(image, image, uniforms(4000))[1]
    inner = [edges(mask) for mask in masks]
    inner = [(top, bottom, left, right) for top, bottom, left, right in inner if top and left and bottom < 63 > right]
    sides = [bottom - top + 1 for top, bottom, _, _ in inner]
    assert sides == [right - left + 1 for _, _, left, right in inner]
    assert set(sides) == set(range(6, 25, 2))
    assert {(top + bottom + 1) // 2 for top, bottom, _, _ in inner} == set(range(12, 51))
    assert {(left + right + 1) // 2 for _, _, left, right in inner} == set(range(12, 51))


def test_square_scales_with_the_image():
    image = torch.zeros(1, 1, 128, 256)
    first = foreign_patch(image, image, torch.zeros(1, 4))[1][0]
    assert edges(first) == (25 - 6, 25 + 5, 51 - 6, 51 + 5)  # int(0.2 * 128), int(0.2 * 256), int(0.05 * 128)
    last = foreign_patch(image, image, torch.full((1, 4), ALMOST_1))[1][0]
    assert edges(last) == (101 - 25, 101 + 24, 203 - 25, 203 + 24)


def test_square_is_never_empty():
    image = torch.zeros(8, 1, 16, 16)
    assert (foreign_patch(image, image, uniforms(8), size=(0.0, 0.0))[1].sum((1, 2, 3)) == 4).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_opacity_ends(share):
    image, source = images(8, 1, 64, 64), images(8, 1, 64, 64, seed=1)
    blended, mask = foreign_patch(image, source, uniforms(8), opacity=(share, share))
    assert torch.equal(blended, torch.where(mask.bool(), source, image) if share else image)


def test_opacity_range():
    image, source = torch.zeros(2, 1, 64, 64), torch.ones(2, 1, 64, 64)
    draw = torch.tensor([[0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.5]])
    blended = foreign_patch(image, source, draw, opacity=(0.2, 0.6))[0]
    torch.testing.assert_close(blended.amax((1, 2, 3)), torch.tensor([0.2, 0.4]))


def test_images_of_a_batch_do_not_see_each_other():
    image, source, draw = images(5, 1, 64, 64), images(5, 1, 64, 64, seed=1), uniforms(5)
    together = foreign_patch(image, source, draw)
    for i in range(5):
        alone = foreign_patch(image[i : i + 1], source[i : i + 1], draw[i : i + 1])
        assert torch.equal(alone[0][0], together[0][i])
        assert torch.equal(alone[1][0], together[1][i])


def test_foreign_patch_in_float64():
    image, source = images(2, 1, 64, 64).double(), images(2, 1, 64, 64, seed=1).double()
    blended, mask = foreign_patch(image, source, uniforms(2))
    assert blended.dtype == mask.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affine_in_the_middle_changes_nothing(dtype):
    image = images(2, 3, 32, 48).to(dtype)
    moved = small_affine(image, torch.full((2, 4), 0.5))
    assert moved.dtype == dtype
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


def test_affine_shift_is_a_share_of_the_side():
    image = images(3, 1, 32, 64)
    draw = torch.tensor([[0.5, 0.5, 1.0, 0.5], [0.5, 0.5, 0.5, 1.0], [0.5, 0.5, 0.0, 0.0]])
    moved = small_affine(image, draw, shift=0.25)
    torch.testing.assert_close(moved[0, :, :-8], image[0, :, 8:], rtol=0, atol=1e-4)  # up
    torch.testing.assert_close(moved[1, :, :, :-16], image[1, :, :, 16:], rtol=0, atol=1e-4)  # left
    torch.testing.assert_close(moved[2, :, 8:, 16:], image[2, :, :-8, :-16], rtol=0, atol=1e-4)
    torch.testing.assert_close(moved[0, :, -8:], image[0, :, -1:].expand(-1, 8, -1), rtol=0, atol=1e-4)  # repeated


def test_affine_rotates_without_stretching():
    image = torch.zeros(2, 1, 32, 64)
    image[:, :, 15:17, 41:43] = 1  # 10 pixels right of the middle
    ends = torch.tensor([[1.0, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 0.5]])
    turned = small_affine(image, ends, degrees=90)
    for one, rows in zip(turned, (slice(5, 7), slice(25, 27)), strict=True):  # 10 pixels above and below it
        assert one[0, rows, 31:33].min() > 0.99
        assert one.sum().item() == pytest.approx(4, abs=0.01)


def test_affine_scale():
    image = torch.zeros(2, 1, 64, 64)
    image[:, :, 24:40, 24:40] = 1
    larger, smaller = small_affine(image, torch.tensor([[0.5, 1.0, 0.5, 0.5], [0.5, 0.0, 0.5, 0.5]]), scale=0.5)
    assert larger.sum().sqrt().item() == pytest.approx(24, abs=0.5)
    assert smaller.sum().sqrt().item() == pytest.approx(8, abs=0.5)


def test_affine_stays_small():
    height = torch.linspace(-1, 1, 65)[None, None, :, None].expand(200, 1, 65, 65)
    moved = (small_affine(height, uniforms(200)) - height).abs()
    # At a corner: 3 % shift, 5 % scale and sin(3.4 degrees) of the half side add up.
    assert moved.max() < 0.06 + 0.05 / 0.95 + 0.06
    assert moved.amax((1, 2, 3)).min() > 0.001


@pytest.mark.parametrize("shape", [(1, 24, 16), (2, 1, 24, 16), (2, 5, 3, 24, 16)])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_append_position_code(shape, rounding):
    image, code = images(*shape), position_code((3, 2), rounding)
    longer = append_position_code(image, (3, 2), rounding)
    assert longer.shape == (*shape[:-3], shape[-3] + code.shape[1], 24, 16)
    assert torch.equal(longer[..., : shape[-3], :, :], image)
    patches = split_patches(longer[..., shape[-3] :, :, :].reshape(-1, code.shape[1], 24, 16), 3, 2)
    expected = code.repeat(len(patches) // 6, 1)[..., None, None].expand_as(patches)
    assert torch.equal(patches, expected)


def test_append_position_code_needs_a_fitting_grid():
    with pytest.raises(ValueError, match=r"image width of 16 .*; use 15 or 18"):
        append_position_code(images(1, 24, 16), (3, 3))


def test_anomaly_map_and_score_by_hand():
    image = torch.tensor([[[1.0, -1], [0, 0.5]], [[1, -1], [0, 0]]])
    restored = torch.tensor([[[-1.0, -1], [0, 0]], [[-1, -1], [1, 0]]])
    result = anomaly_map(image, restored)
    assert result.tolist() == [[[1, 0], [0.25, 0.125]]]
    assert anomaly_score(result).item() == 1.375 / 4


def test_anomaly_score_is_one_number_an_image():
    image, restored = images(5, 3, 8, 8), images(5, 3, 8, 8, seed=1)
    scores = anomaly_score(anomaly_map(image, restored))
    assert scores.shape == (5,)
    expected = [(a - b).abs().mean().item() / 2 for a, b in zip(image, restored, strict=True)]
    assert scores.tolist() == pytest.approx(expected)
    assert anomaly_map(image, image).max() == 0


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return (images(*shape, seed=seed) + 1) / 2


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 20.0])
def test_gaussian_agrees_with_scipy(sigma):
    rough = maps(3, 1, 24, 40).double()
    expected = gaussian_filter(rough.numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=8)
    np.testing.assert_allclose(smooth_map(rough, sigma=sigma).numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 50.0])
def test_gaussian_keeps_the_score(sigma):
    rough = maps(4, 1, 33, 64)
    smooth = smooth_map(rough, sigma=sigma)
    torch.testing.assert_close(anomaly_score(smooth), anomaly_score(rough), rtol=0, atol=1e-6)
    assert smooth.std() < rough.std()
    assert smooth.min() >= 0
    assert smooth.max() <= 1


def guided_by_hand(target: np.ndarray, guide: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    h, w = target.shape
    window = [
        [
            np.s_[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
            for x in range(w)
        ]
        for y in range(h)
    ]  # fmt: skip
    slope, offset = np.zeros((h, w)), np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            p, g = target[window[y][x]], guide[window[y][x]]
            slope[y, x] = ((p - p.mean()) * (g - g.mean())).mean() / (g.var() + epsilon)
            offset[y, x] = p.mean() - slope[y, x] * g.mean()
    means = [[(slope[window[y][x]].mean(), offset[window[y][x]].mean()) for x in range(w)] for y in range(h)]
    return np.array([[means[y][x][0] * guide[y, x] + means[y][x][1] for x in range(w)] for y in range(h)])


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 0.01), (2, 0.04), (4, 0.5)])
def test_guided_filter_by_hand(radius, epsilon):
    rough, guide = maps(2, 1, 9, 12).double(), images(2, 3, 9, 12, seed=1).double()
    smooth = smooth_map(rough, "guided", guide, radius=radius, epsilon=epsilon)
    for one, p, g in zip(smooth[:, 0], rough[:, 0], guide.mean(1), strict=True):
        expected = guided_by_hand(p.numpy(), g.numpy(), radius, epsilon).clip(0, 1)
        np.testing.assert_allclose(one.numpy(), expected, rtol=0, atol=1e-10)


def test_guided_filter_keeps_the_edges_of_its_guide():
    guide = torch.full((1, 1, 32, 32), -0.5)
    guide[..., 16:] = 0.5
    clean = (guide > 0).float() * 0.6
    rough = (clean + 0.1 * images(1, 1, 32, 32)).clamp(0, 1)
    guided, gaussian = smooth_map(rough, "guided", guide, epsilon=0.001), smooth_map(rough, sigma=2.0)
    step = [float((x[..., 16] - x[..., 15]).mean()) for x in (guided, gaussian)]
    assert step[0] > 0.5
    assert step[1] < 0.2
    assert (guided - clean).abs().mean() < 0.5 * (rough - clean).abs().mean()


def test_guided_filter_by_an_even_image_is_a_box_filter_twice():
    rough, flat = maps(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    smooth = smooth_map(rough, "guided", flat, radius=2)
    inner = torch.nn.functional.avg_pool2d(torch.nn.functional.avg_pool2d(rough, 5, 1), 5, 1)
    torch.testing.assert_close(smooth[..., 4:-4, 4:-4], inner)


@pytest.mark.parametrize("kind", ["gaussian", "guided"])
def test_smoothing_leaves_even_maps_and_other_images_alone(kind):
    guide = images(3, 1, 16, 24)
    even = torch.full((3, 1, 16, 24), 0.3)
    torch.testing.assert_close(smooth_map(even, kind, guide), even, rtol=0, atol=1e-5)
    rough = maps(3, 1, 16, 24, seed=1)
    together = smooth_map(rough, kind, guide)
    assert together.shape == rough.shape
    assert together.dtype == rough.dtype
    for i in range(3):
        torch.testing.assert_close(smooth_map(rough[i : i + 1], kind, guide[i : i + 1])[0], together[i])


def test_no_smoothing_gives_the_map_itself():
    rough = maps(2, 1, 8, 8)
    assert smooth_map(rough, "none") is rough


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"kind": "median"}, ("'median'", "gaussian", "guided")),
        ({"sigma": 0}, ("sigma is 0",)),
        ({"sigma": float("nan")}, ("sigma is nan",)),
        ({"kind": "guided"}, ("image",)),
        ({"kind": "guided", "image": torch.zeros(1, 1, 8, 8), "radius": 0}, ("radius is 0",)),
        ({"kind": "guided", "image": torch.zeros(1, 1, 8, 8), "epsilon": 0.0}, ("epsilon 0.0",)),
    ],
)
def test_smoothing_refuses_what_makes_no_sense(arguments, parts, refused):
    with refused(*parts):
        smooth_map(maps(1, 1, 8, 8), **arguments)
