"""Seamless cloning of rectangles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from monai_sagan.transforms.poisson import mixed_clone, solve_poisson


def rectangles(count, size, least, draw):
    """Top, left, height, width of random ones within images."""
    height, width = draw.integers(least, size + 1, (2, count))
    return [
        torch.from_numpy(x)
        for x in (draw.integers(0, size - height + 1), draw.integers(0, size - width + 1), height, width)
    ]


def test_solutions_equal_those_of_sparse_matrices():
    draw = np.random.default_rng(0)
    size, count = 17, 12
    divergence = draw.normal(size=(count, 2, size, size))
    places = rectangles(count, size, 1, draw)
    found = solve_poisson(torch.from_numpy(divergence), places, (size, size)).numpy()
    for i, (top, left, height, width) in enumerate(zip(*(x.tolist() for x in places), strict=True)):
        line = [sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n)) for n in (height, width)]
        laplacian = sparse.kronsum(line[1], line[0], format="csc")
        box = np.s_[top : top + height, left : left + width]
        for channel in range(2):
            expected = np.zeros((size, size))
            expected[box] = spsolve(laplacian, divergence[i, channel][box].ravel()).reshape(height, width)
            np.testing.assert_allclose(found[i, channel], expected, atol=1e-12)


def test_solutions_do_not_depend_on_how_many_sines_are_there():
    draw = np.random.default_rng(1)
    divergence = torch.from_numpy(draw.normal(size=(5, 1, 20, 20)))
    places = rectangles(5, 12, 1, draw)
    one, other = (solve_poisson(divergence, places, most) for most in ((12, 12), (20, 15)))
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_an_empty_rectangle_gives_nothing():
    none = torch.zeros(1, dtype=torch.long)
    assert not solve_poisson(torch.ones(1, 1, 8, 8), (none, none, none, none), (4, 4)).any()


def test_an_image_cloned_into_itself_stays():
    image = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 255
    added = mixed_clone(image, image, rectangles(4, 24, 6, np.random.default_rng(2)), (24, 24))
    assert added.abs().max() == 0


def test_brightness_of_the_source_has_no_effect():
    generator = torch.Generator().manual_seed(0)
    image, source = (torch.rand(4, 1, 24, 24, generator=generator, dtype=torch.float64) * 100 for _ in range(2))
    places = rectangles(4, 24, 10, np.random.default_rng(3))
    torch.testing.assert_close(
        mixed_clone(image, source, places, (24, 24)), mixed_clone(image, source + 50, places, (24, 24))
    )


@pytest.mark.parametrize(("size", "count"), [(64, 800), (160, 200)])
def test_opencv_clones_alike(size, count):
    """Within one grey level; OpenCV cuts decimals off where we round."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed, with which cloning is compared")
    draw = np.random.default_rng(size)

    def images():
        for _ in range(count):
            smooth = ndimage.gaussian_filter(draw.normal(size=(size, size)), draw.uniform(0.5, 4))
            smooth = 255 * (smooth - smooth.min()) / np.ptp(smooth) + draw.normal(0, 3, (size, size))
            yield smooth.clip(0, 255).astype(np.uint8)

    image, source = (np.stack([*images()]) for _ in range(2))
    places = rectangles(count, size, 9, draw)
    expected = []
    for i, (top, left, height, width) in enumerate(zip(*(x.tolist() for x in places), strict=True)):
        color, patch = np.zeros((size, size, 3), np.uint8), np.zeros((height, width, 3), np.uint8)
        color[..., 0], patch[..., 0] = image[i], source[i, top : top + height, left : left + width]
        mask = np.full((height, width), 255, np.uint8)
        mask[[0, -1]] = mask[:, [0, -1]] = 0
        center = left + 1 + (width - 2) // 2, top + 1 + (height - 2) // 2
        expected.append(cv2.seamlessClone(patch, color, mask, center, cv2.MIXED_CLONE)[..., 0])
    given, other = (torch.from_numpy(x)[:, None].float() for x in (image, source))
    found = (given + mixed_clone(given, other, places, (size, size)))[:, 0].numpy()
    assert (np.stack(expected) != image).mean() > 0.1
    assert np.abs(found.round().clip(0, 255) - np.stack(expected)).max() <= 1
    assert (np.floor(found.clip(0, 255) + 1e-3) == np.stack(expected)).mean() > 0.99
