"""Which patches synthetic anomalies take from a source image, and where they go: sizes, places, and what is refused.

After Natural Synthetic Anomalies, https://arxiv.org/abs/2109.15222. Its pixel counts are for images of 224 x 224; here
they are shares of an image's sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.transforms.crops import sample_patches

__all__ = ["DRAWS", "PATCHES", "Patches", "choose_patches", "width_bounds"]

PATCHES = 3  # at most, of an image
TRIES = 200  # of a place, and again of where a patch goes
DRAWS = 4 + TRIES + 1 + TRIES  # uniform numbers of a patch: sizes, places, scale, places it goes to
OBJECT_SHARE = 0.7  # of a patch, and of what it covers
GAMMA = (0.05, 0.03)  # half widths as shares of the side: the first plus a gamma variable of shape 2 and this scale
WIDTHS = (0.03, 0.4)  # least and greatest half width, likewise
SCALE = (1.0, 0.5, 0.7, 1.3)  # of resized patches: mean, standard deviation, least, greatest


class Patches(NamedTuple):
    """Patches of a batch, each int64 (B, P) in pixels but ``valid``.

    Args:
        valid: bool (B, P), False where no place was found.
        from_top: first row in the source.
        from_left: first column there.
        from_height: rows there.
        from_width: columns there.
        top: first row in the image.
        left: first column there.
        height: rows there.
        width: columns there.
    """

    valid: Tensor
    from_top: Tensor
    from_left: Tensor
    from_height: Tensor
    from_width: Tensor
    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def width_bounds(side: int) -> tuple[int, int]:
    """Least and greatest half width of a patch on an image's ``side``, in pixels: 7 and 90 of 224, 2 and 26 of 64."""
    least, most = (max(round(share * side), 1) for share in WIDTHS)
    return least, max(least, min(most, side // 2))


def choose_patches(
    objects: Tensor,
    source_objects: Tensor,
    uniform: Tensor,
    wanted: Tensor,
    shift: bool,
    resize: bool,
    fixed: bool,
) -> Patches:
    """Choose patches that lie on the object in the source, and when they are shifted in the image.

    Args:
        objects: where the images' objects are, bool (B, H, W).
        source_objects: the same of the sources.
        uniform: (B, P, `DRAWS`) in [0, 1).
        wanted: which patches to choose, bool (B, P).
        shift: the patches go to another place.
        resize: they change their size on the way.
        fixed: use shapes that do not depend on values, as a captured step must. Else tries stop at the first that is
            accepted, to the same result.
    """
    batch, count = uniform.shape[:2]
    sizes, tries, scale, shifts = uniform.flatten(0, 1).split([4, TRIES, 1, TRIES], dim=-1)
    member = torch.arange(batch, device=uniform.device).repeat_interleave(count)
    valid, *source = _choose_source(source_objects, member, sizes, tries, wanted.flatten(), fixed)
    top, left, height, width = source
    if resize:
        height, width = _resized(height, width, scale[:, 0], objects.shape[1:])
    if shift:
        place = (*source, height, width)
        valid, top, left = _choose_target(objects, source_objects, member, place, valid, shifts, fixed)
    return Patches(*(x.reshape(batch, count) for x in (valid, *source, top, left, height, width)))


def _choose_source(
    objects: Tensor, member: Tensor, sizes: Tensor, tries: Tensor, wanted: Tensor, fixed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Whether there is one, and its top, left, height, width: the first rectangle of which enough is object."""
    sides = objects.shape[1:]
    halves = [_half_widths(sizes[:, 2 * axis : 2 * axis + 2], side) for axis, side in enumerate(sides)]
    sums = F.pad(objects.to(torch.int32).cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32), (1, 0, 1, 0))
    lines = sides[1] + 1

    def rectangles(rows: Tensor, uniform: Tensor) -> list[Tensor]:
        (low, _), (low_across, _) = (width_bounds(side) for side in sides)
        places = max(sides[0] - 2 * low, 1), max(sides[1] - 2 * low_across, 1)
        down, across = _cells(uniform, *places)
        found = []
        for center, half, side in zip((down + low, across + low_across), halves, sides, strict=True):
            found += [(center - half[rows, None]).clamp(min=0), (center + half[rows, None]).clamp(max=side)]
        return found

    def accepts(rows: Tensor, uniform: Tensor) -> Tensor:
        top, bottom, left, right = rectangles(rows, uniform)
        start = member[rows, None] * sums[0].numel()
        corners = [
            sums.take(start + y * lines + x) for y, x in ((bottom, right), (top, right), (bottom, left), (top, left))
        ]
        return corners[0] - corners[1] - corners[2] + corners[3] > OBJECT_SHARE * (bottom - top) * (right - left)

    everyone = torch.arange(len(member), device=member.device)
    valid, chosen = _first_accepted(accepts, tries, wanted, fixed, TRIES)
    top, bottom, left, right = (x[:, 0] for x in rectangles(everyone, chosen))
    return valid & wanted, top, left, bottom - top, right - left


def _half_widths(uniform: Tensor, side: int) -> Tensor:
    """Half widths in pixels from two uniform numbers each: their logarithms sum up to a gamma variable of shape 2."""
    share = GAMMA[0] - GAMMA[1] * torch.log1p(-uniform).sum(-1)
    return (share * side).clamp(*width_bounds(side)).long()


def _resized(height: Tensor, width: Tensor, uniform: Tensor, sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Height and width after scaling, within the bounds of half widths, with about the ratio of before."""
    mean, deviation, least, most = SCALE
    scale = (mean + deviation * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))).clamp(least, most)
    (low, high), (low_across, high_across) = (width_bounds(side) for side in sides)
    new_height = (scale * height).clamp(low, high)
    new_width = (new_height / height * width).long().clamp(low_across, high_across)
    return (new_width / width * height).long().clamp(low, high), new_width


def _choose_target(
    objects: Tensor,
    source_objects: Tensor,
    member: Tensor,
    place: tuple[Tensor, ...],
    valid: Tensor,
    tries: Tensor,
    fixed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Whether there is one, and its top and left: the first place where the object of the source covers object."""
    sides, (height, width) = objects.shape[1:], place[4:]
    bounds = [min(2 * width_bounds(side)[1], side) for side in sides]
    window = bounds if fixed or not len(member) else [int(height.max()), int(width.max())]
    rows, cols = (torch.arange(n, device=objects.device) for n in window)
    patch = _object_of_patch(source_objects, member, place, rows, cols)
    size = patch.sum((1, 2), dtype=torch.int32)
    valid = valid & (size > OBJECT_SHARE * height * width)
    inside = rows[:, None] * sides[1] + cols

    def corner(members: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        places = [
            (side - 2 * (n[members] // 2) - 2).clamp(min=1) for side, n in zip(sides, (height, width), strict=True)
        ]
        down, across = _cells(uniform, *(n[:, None] for n in places))
        ends = [(side - n[members, None]).clamp(min=0) for side, n in zip(sides, (height, width), strict=True)]
        return (down + 1).minimum(ends[0]), (across + 1).minimum(ends[1])

    def accepts(members: Tensor, uniform: Tensor) -> Tensor:
        top, left = corner(members, uniform)
        start = (member[members, None] * sides[0] + top) * sides[1] + left
        covered = objects.take((start[:, :, None, None] + inside).clamp(max=objects.numel() - 1))
        overlap = (covered & patch[members, None]).sum((2, 3), dtype=torch.int32)
        return overlap > OBJECT_SHARE * size[members, None]

    found, chosen = _first_accepted(accepts, tries, valid, fixed, 8)
    top, left = corner(torch.arange(len(member), device=member.device), chosen)
    return found & valid, top[:, 0], left[:, 0]


def _object_of_patch(
    source_objects: Tensor, member: Tensor, place: tuple[Tensor, ...], rows: Tensor, cols: Tensor
) -> Tensor:
    """Where the source's object is in each patch as it arrives, bool (N, rows, cols); False beyond the patch."""
    height, width = (side[:, None] for side in place[4:])
    n = len(member)
    found = sample_patches(source_objects[:, None], member, place, rows.expand(n, -1), cols.expand(n, -1))
    return (found[:, 0] > 0.5) & (rows < height)[:, :, None] & (cols < width)[:, None, :]


def _cells(uniform: Tensor, rows: Tensor | int, cols: Tensor | int) -> tuple[Tensor, Tensor]:
    """Rows and columns of cells that uniform numbers choose among ``rows * cols``."""
    cell = (uniform * (rows * cols)).long().minimum(torch.as_tensor(rows * cols - 1, device=uniform.device))
    row = torch.div(cell, cols, rounding_mode="floor")
    return row, cell - row * cols


def _first_accepted(
    accepts: Callable[[Tensor, Tensor], Tensor], uniform: Tensor, wanted: Tensor, fixed: bool, together: int
) -> tuple[Tensor, Tensor]:
    """Which of the rows have an accepted try, and the uniform number (N, 1) of its first one.

    Args:
        accepts: tells of rows (n,) and their uniform numbers (n, t) which tries (n, t) are accepted.
        uniform: of all tries, (N, T).
        wanted: rows to try for, bool (N,).
        fixed: try everything, ``together`` tries of all rows at a time, instead of going on with the rows that are left.
        together: see there.
    """
    found, chosen = torch.zeros_like(uniform[:, 0], dtype=torch.bool), uniform[:, :1].clone()
    everyone = torch.arange(len(uniform), device=uniform.device)
    start, left = 0, everyone if fixed else wanted.nonzero()[:, 0]
    step = together if fixed else 4
    while start < uniform.shape[1] and (fixed or len(left)):
        tries = uniform[left, start : start + step]
        accepted = accepts(left, tries)
        new = accepted.any(1)
        first = tries.gather(1, accepted.to(torch.uint8).argmax(1, keepdim=True))
        start += step
        if fixed:
            chosen = torch.where((new & ~found)[:, None], first, chosen)
            found = found | new
        else:
            chosen[left[new]], found[left[new]] = first[new], True
            left, step = left[~new], 4 * step
    return found, chosen
