"""Which patches synthetic anomalies take from a source image, and where they go: sizes, places, and what is refused.

After Natural Synthetic Anomalies, https://arxiv.org/abs/2109.15222. Its pixel counts are for images of 224 x 224; here
they are shares of an image's sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.transforms.crops import interpolate, patch_corners, patch_pixels, pixels_at, window_places

__all__ = ["DRAWS", "PATCHES", "Patches", "choose_patches", "width_bounds"]

PATCHES = 3  # at most, of an image
TRIES = 200  # of a place, and again of where a patch goes
DRAWS = 4 + TRIES + 1 + TRIES  # uniform numbers of a patch: sizes, places, scale, places it goes to
OBJECT_SHARE = 0.7  # of a patch, and of what it covers
GAMMA = (0.05, 0.03)  # half widths as shares of the side: the first plus a gamma variable of shape 2 and this scale
WIDTHS = (0.03, 0.4)  # least and greatest half width, likewise
SCALE = (1.0, 0.5, 0.7, 1.3)  # of resized patches: mean, standard deviation, least, greatest
FIRST_TRIES = 8  # at a time where trying stops at the first success; then all others for the patches that are left
TOGETHER = 8  # tries that are compared pixel by pixel at a time


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
    shift: bool = False,
    resize: bool = False,
    fixed: bool = True,
) -> Patches:
    """Choose patches that lie on the object in the source, and when they are shifted in the image.

    Args:
        objects: where the images' objects are, uint8 (B, H, W), 0 and 1.
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
    valid, pixels, source = _choose_source(source_objects, member, sizes, tries, wanted.flatten(), fixed)
    (top, left, height, width), sides = source, objects.shape[1:]
    if resize:
        height, width = _resized(height, width, scale[:, 0], sides)
    if shift:
        place = (*source, height, width) if resize else source
        target = _Target(objects, source_objects, member, place, pixels, fixed)
        valid = valid & (target.pixels > OBJECT_SHARE * height * width)
        found, chosen = _first_accepted(target.accepts, shifts, valid, fixed, TOGETHER)
        valid = valid & found
        top, left = (start[:, 0] for start in target.corners(slice(None), chosen))
    return Patches(*(x.reshape(batch, count) for x in (valid, *source, top, left, height, width)))


def _choose_source(
    objects: Tensor, member: Tensor, sizes: Tensor, tries: Tensor, wanted: Tensor, fixed: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Whether there is one, its pixels of object, and its place: the first rectangle of which enough is object."""
    sides = objects.shape[1:]
    halves = [_half_widths(sizes[:, 2 * axis : 2 * axis + 2], side)[:, None] for axis, side in enumerate(sides)]
    most = [min(2 * width_bounds(side)[1], side) for side in sides]
    sums = _row_sums(objects)

    def rectangles(rows: Tensor | slice, uniform: Tensor) -> list[Tensor]:
        """Top, left, height, width."""
        lows = [width_bounds(side)[0] for side in sides]
        centers = _cells(uniform, *(max(side - 2 * low, 1) for side, low in zip(sides, lows, strict=True)))
        ends = []
        for center, low, half, side in zip(centers, lows, halves, sides, strict=True):
            start, end = (center + low - half[rows]).clamp(min=0), (center + low + half[rows]).clamp(max=side)
            ends.append((start, end - start))
        return [ends[0][0], ends[1][0], ends[0][1], ends[1][1]]

    def accepts(rows: Tensor, uniform: Tensor) -> Tensor:
        _, _, height, width = place = rectangles(rows, uniform)
        return _count(sums, member[rows], place, most[0], fixed) > OBJECT_SHARE * height * width

    valid, chosen = _first_accepted(accepts, tries, wanted, fixed, TRIES // 4)
    place = rectangles(slice(None), chosen)
    pixels = _count(sums, member, place, most[0], fixed)[:, 0]
    return valid & wanted, pixels, tuple(x[:, 0] for x in place)


class _Target:
    """Where patches may go: to places where the object of the source covers enough of the image's object.

    Args:
        objects: where the images' objects are, uint8 (B, H, W).
        source_objects: the same of the sources.
        member: image of each patch, (N,).
        place: of each patch in its source, and its new height and width where it is resized.
        pixels: how many of those in the source are object, (N,).
        fixed: see `choose_patches`.
    """

    def __init__(
        self,
        objects: Tensor,
        source_objects: Tensor,
        member: Tensor,
        place: tuple[Tensor, ...],
        pixels: Tensor,
        fixed: bool,
    ) -> None:
        self.objects, self.source_objects, self.member = objects, source_objects, member
        self.place, self.sizes, self.fixed = place, place[-2:], fixed
        self.pixels = pixels
        self.most = [min(2 * width_bounds(side)[1], side) for side in objects.shape[1:]]
        self.everyone = torch.arange(len(member), device=member.device)
        self.sums = None if fixed else _row_sums(objects)
        if fixed:
            self.patch = self._object(self.everyone, self.most)
            self.pixels = self.patch.sum((1, 2), dtype=torch.int32)
        elif len(place) == 6:  # resized, and counted again where not everything is object
            height, width = self.sizes
            some = (pixels < place[2] * place[3]).nonzero()[:, 0]
            self.pixels = height * width
            for part in some.split(64) if len(some) else ():
                window = int(height[part].max()), int(width[part].max())
                self.pixels[part] = self._object(part, window).sum((1, 2), dtype=torch.int64)

    def corners(self, rows: Tensor | slice, uniform: Tensor) -> list[Tensor]:
        """Tops and lefts that uniform numbers (n, t) choose: one pixel of the image stays on all sides."""
        sides, sizes = self.objects.shape[1:], [size[rows, None] for size in self.sizes]
        places = [(side - 2 * (size // 2) - 2).clamp(min=1) for side, size in zip(sides, sizes, strict=True)]
        cells = _cells(uniform, *places)
        return [(c + 1).minimum((side - n).clamp(min=0)) for c, side, n in zip(cells, sides, sizes, strict=True)]

    def accepts(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """Of which tries (n, t) enough is covered."""
        top, left = self.corners(rows, uniform)
        if self.fixed:
            return self._overlap(rows, top, left, self.patch[rows], self.most) > OBJECT_SHARE * self.pixels[rows, None]
        assert self.sums is not None
        height, width = (size[rows, None] for size in self.sizes)
        pixels = self.pixels[rows, None]
        place = [top, left, height.expand_as(top), width.expand_as(top)]
        below = _count(self.sums, self.member[rows], place, self.most[0], False)
        # So much at least is covered, and so much at most; only between, and before a success, are pixels compared.
        accepted = pixels + below - height * width > OBJECT_SHARE * pixels
        unsure = ((accepted.cumsum(1) == 0) & (below > OBJECT_SHARE * pixels)).nonzero()
        for part in unsure.split(256) if len(unsure) else ():
            pair, some = part.unbind(1), rows[part[:, 0]]
            window = [int(size[some].max()) for size in self.sizes]
            covered = self._overlap(some, top[pair][:, None], left[pair][:, None], self._object(some, window), window)
            accepted[pair] = covered[:, 0] > OBJECT_SHARE * self.pixels[some]
        return accepted

    def _object(self, rows: Tensor, window: tuple[int, int] | list[int]) -> Tensor:
        """Where the source's object is in patches as they arrive, bool (n, h, w); False beyond the patch."""
        inside = [torch.arange(n, device=rows.device).expand(len(rows), -1) for n in window]
        place = [side[rows] for side in self.place]
        images = self.source_objects[:, None]
        if len(place) == 4:
            found = patch_pixels(images, self.member[rows], place, *inside)[:, 0].bool()
        else:
            found = interpolate(*patch_corners(images, self.member[rows], place, *inside))[:, 0] > 0.5
        within = [n < size[rows, None] for n, size in zip(inside, self.sizes, strict=True)]
        return found & within[0][:, :, None] & within[1][:, None, :]

    def _overlap(self, rows: Tensor, top: Tensor, left: Tensor, patch: Tensor, window: list[int]) -> Tensor:
        """Pixels of object under the object of patches (n, h, w), for each of their tries (n, t)."""
        inside = [torch.arange(n, device=rows.device) for n in window]
        member = self.member[rows, None].expand_as(top).flatten()
        lines = [start.flatten()[:, None] + n for start, n in zip((top, left), inside, strict=True)]
        lines = [line.clamp(max=side - 1) for line, side in zip(lines, self.objects.shape[1:], strict=True)]
        images = self.objects[:, None]
        below = pixels_at(images, window_places(images.shape, member, *lines)).view(*top.shape, *window)
        return (below.bool() & patch[:, None]).sum((2, 3), dtype=torch.int32)


def _half_widths(uniform: Tensor, side: int) -> Tensor:
    """Half widths in pixels from two uniform numbers each: their logarithms sum up to a gamma variable of shape 2."""
    share = GAMMA[0] - GAMMA[1] * torch.log1p(-uniform).sum(-1)
    return (share * side).clamp(*width_bounds(side)).long()


def _resized(height: Tensor, width: Tensor, uniform: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Height and width after scaling, within the bounds of half widths, with about the ratio of before."""
    mean, deviation, least, most = SCALE
    scale = (mean + deviation * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))).clamp(least, most)
    (low, high), (low_across, high_across) = (width_bounds(side) for side in sides)
    new_height = (scale * height).clamp(low, high)
    new_width = (new_height / height * width).long().clamp(low_across, high_across)
    return (new_width / width * height).long().clamp(low, high), new_width


def _row_sums(objects: Tensor) -> Tensor:
    """How many pixels of object lie left of each one, and left of the image's right end: (B, H, W + 1)."""
    return F.pad(objects.cumsum(-1, dtype=torch.int16 if objects.shape[-1] < 2**15 else torch.int32), (1, 0))


def _count(sums: Tensor, member: Tensor, place: list[Tensor], most: int, fixed: bool) -> Tensor:
    """Pixels of object in rectangles, int64 (n, t), of the images ``member`` (n,); ``most`` rows at most."""
    top, left, height, width = place
    rows = torch.arange(most if fixed or not height.numel() else int(height.max()), device=sums.device)
    line = (
        member[:, None, None] * sums.shape[1] + top[:, :, None] + rows.minimum(height[:, :, None] - 1)
    ) * sums.shape[2]
    lengths = pixels_at(sums, line + (left + width)[:, :, None]) - pixels_at(sums, line + left[:, :, None])
    return (lengths * (rows < height[:, :, None]).to(lengths.dtype)).sum(-1)


def _cells(uniform: Tensor, rows: Tensor | int, cols: Tensor | int) -> tuple[Tensor, Tensor]:
    """Rows and columns of cells that uniform numbers choose among ``rows * cols``."""
    scaled = uniform * rows
    row = scaled.long().clamp(max=rows - 1)  # rounding may reach the number itself
    return row, ((scaled - row) * cols).long().clamp(max=cols - 1)


def _first_accepted(
    accepts: Callable[[Tensor, Tensor], Tensor], uniform: Tensor, wanted: Tensor, fixed: bool, together: int
) -> tuple[Tensor, Tensor]:
    """Which of the rows have an accepted try, and the uniform number (N, 1) of its first one.

    Args:
        accepts: of rows (n,) and their uniform numbers (n, t), which tries (n, t) are accepted.
        uniform: of all tries, (N, T).
        wanted: rows to try for, bool (N,).
        fixed: try everything, ``together`` tries of all rows at a time; else go on with the rows that are left.
        together: see there.
    """
    found, chosen = torch.zeros_like(wanted), uniform[:, :1].clone()
    start, step = 0, together if fixed else FIRST_TRIES
    left = torch.arange(len(uniform), device=uniform.device) if fixed else wanted.nonzero()[:, 0]
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
            left, step = left[~new], TRIES
    return found, chosen
