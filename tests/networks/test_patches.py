"""Cutting into patches, putting together, and the patches' position code."""

from __future__ import annotations

import re

import pytest
import torch

from monai_sagan.networks.patches import check_grid, merge_patches, position_code, split_patches

CUTS = [((1, 1), (5, 7)), ((2, 2), (8, 8)), ((2, 2), (6, 10)), ((3, 2), (9, 4)), ((1, 4), (3, 8)), ((4, 4), (8, 16))]


def numbered(height: int, width: int) -> torch.Tensor:
    return torch.arange(3.0 * 2 * height * width).reshape(3, 2, height, width)


@pytest.mark.parametrize(("grid", "size"), CUTS)
def test_patches_are_row_major_and_an_image_stays_together(grid, size):
    image = numbered(*size)
    h, w = size[0] // grid[0], size[1] // grid[1]
    slices = [
        one[:, r * h : (r + 1) * h, c * w : (c + 1) * w]
        for one in image
        for r in range(grid[0])
        for c in range(grid[1])
    ]
    assert torch.equal(split_patches(image, *grid), torch.stack(slices))


@pytest.mark.parametrize(("grid", "size"), CUTS)
def test_merge_undoes_split(grid, size):
    image = numbered(*size)
    assert torch.equal(merge_patches(split_patches(image, *grid), *grid), image)


def test_position_code_counts_in_binary():
    assert position_code((2, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


@pytest.mark.parametrize(("grid", "floor", "ceil"), [((1, 1), 1, 1), ((2, 2), 3, 3), ((3, 3), 4, 5), ((4, 4), 5, 5)])
def test_position_code_length(grid, floor, ceil):
    assert position_code(grid, "floor").shape == (grid[0] * grid[1], floor)
    assert position_code(grid, "ceil").shape == (grid[0] * grid[1], ceil)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (3, 3), (4, 2), (7, 5)])
def test_position_code_reads_as_the_number_of_the_patch(grid, rounding):
    code = position_code(grid, rounding)
    numbers = [int("".join(str(int(bit)) for bit in row), 2) for row in code]
    assert numbers == list(range(grid[0] * grid[1]))


def test_position_code_errors():
    with pytest.raises(ValueError, match=r"'round'; use 'floor' or 'ceil'"):
        position_code((2, 2), "round")
    for grid in [(0, 2), (2, 0), (-1, -1)]:
        with pytest.raises(ValueError, match="at least 1"):
            position_code(grid)


@pytest.mark.parametrize(
    ("height", "width", "stride", "says"),
    [
        (65, 64, 8, r"image height of 65 does not fit grid \(2, 3\): it must be a multiple of 16 .*; use 64 or 80$"),
        (64, 50, 8, r"image width of 50 .* multiple of 24 .*; use 48 or 72$"),
        (64, 5, 1, r"image width of 5 .* multiple of 3 .*; use 3 or 6$"),
        (7, 48, 8, r"image height of 7 .*; use 16$"),
    ],
)
def test_check_grid_names_the_sides_that_fit(height, width, stride, says):
    with pytest.raises(ValueError, match=says) as error:
        check_grid((2, 3), height, width, stride)
    axis = 0 if "height" in str(error.value) else 1
    for side in re.findall(r"\d+", str(error.value).rpartition("use ")[2]):
        fitting = [16 * stride, 48 * stride]
        fitting[axis] = int(side)
        check_grid((2, 3), *fitting, stride)


def test_check_grid_accepts_what_fits():
    check_grid((2, 3), 16, 24, stride=8)
    check_grid((1, 1), 1, 1)
