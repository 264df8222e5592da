"""Near-duplicate images: copies that were encoded again, resized, cropped, mirrored, turned, inverted or edited."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.data.array_store import StoredImages, in_parts

__all__ = ["NEAR", "Thumbnails", "near_duplicates", "sampling_step"]

SIDE = 32  # of a thumbnail, in pixels
NEAR = 0.945  # cosine of the detail of two aligned thumbnails, from which on they are copies
MAYBE = 0.84  # cosine of their coarse detail, from which on two are aligned
BEST = 5  # candidates of an image that are aligned, at most
STEPS = 4  # of an alignment
LIMIT = 4 * 10**8  # pairs that are compared, at most: above it the images are sampled
CHUNK = 2**20  # pixels that are shrunk at a time
BLOCK, PAIRS = 256, 512  # images that are compared, and pairs that are aligned, at a time

View = tuple[float, float, float, float, bool]  # horizontal scale and shift, vertical ones; transposed before?
TURNS: list[View] = [(x, 0.0, y, 0.0, turned) for turned in (False, True) for y in (1.0, -1.0) for x in (1.0, -1.0)]
WHOLE = TURNS[0]
CROPS: list[View] = [(0.95, x, 0.95, y, False) for x in (-0.03, 0.03) for y in (-0.03, 0.03)]


class Thumbnails:
    """What is compared of N images: grey pictures (N, 32, 32), and the coarse detail of five views of them (5, N, 256).

    The views are the whole picture and four crops; an image takes 4.5 KiB.

    Args:
        images: uint8 (N, C, H, W); stored ones are read in parts.
    """

    def __init__(self, images: Tensor | StoredImages) -> None:
        self.pictures = torch.empty(len(images), SIDE, SIDE, dtype=torch.float16)
        self.coarse = torch.empty(1 + len(CROPS), len(images), SIDE**2 // 4, dtype=torch.float16)
        for part in in_parts(len(images), images.shape, CHUNK):
            grey = images[part].float().mean(1, keepdim=True)
            small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[:, 0]
            self.pictures[part] = small
            for vectors, view in zip(self.coarse, (WHOLE, *CROPS), strict=True):
                seen = _seen(small, torch.tensor([view]).expand(len(small), 5))
                vectors[part] = _detail(F.avg_pool2d(seen[:, None], 2)[:, 0]).flatten(1)

    def __len__(self) -> int:
        return len(self.pictures)


def near_duplicates(
    images: Tensor | Thumbnails, others: Tensor | Thumbnails, turned: bool = True
) -> list[tuple[int, int, float]]:
    """Find pairs of nearly the same image among ``images`` and ``others``, uint8 (N, C, H, W) and (M, C, H, W).

    The local contrast of thumbnails is compared: the difference of a pixel from its surroundings, divided by their
    spread. Pairs that are similar at 16 x 16, as they are or with one of them cropped by 5 %, mirrored or turned by
    quarters, are aligned by scale and shift and compared at 32 x 32. Copies have a cosine of at least 0.945 in absolute
    value: it is negative for inverted ones, as by a wrong MONOCHROME1. At most five candidates are aligned for each of
    ``others``, and at most 4 x 10^8 pairs are compared (see `sampling_step`), which bounds the time.
    ``benchmarks/near_duplicates.py`` measures recall and false alarms.

    Args:
        images: or their thumbnails.
        others: or their thumbnails.
        turned: whether mirrored and turned copies count.

    Returns:
        index in ``images``, index in ``others``, the absolute cosine.

    Example:
        >>> images = torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
        >>> [(i, j) for i, j, _ in near_duplicates(images, images.flip(-1)[1:])]
        [(1, 0), (2, 1)]
    """
    one, other = (part if isinstance(part, Thumbnails) else Thumbnails(part) for part in (images, others))
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(other) if len(one) else 0, BLOCK):
        i, j = _candidates(one, other, slice(start, start + BLOCK), turned)
        for part in (slice(k, k + PAIRS) for k in range(0, len(i), PAIRS)):
            likeness = _likeness(one, other, i[part], j[part], turned)
            rows = zip(i[part].tolist(), j[part].tolist(), likeness.tolist(), strict=True)
            found += (row for row in rows if row[2] >= NEAR)
    return sorted(found)


def sampling_step(images: int, others: int) -> int:
    """Every how many-th of so many ``images`` is compared with each of ``others``: all of them up to 4 x 10^8 pairs.

    Example:
        >>> sampling_step(20_000, 20_000), sampling_step(80_000, 20_000)
        (1, 4)
    """
    return max(-(-images * others // LIMIT), 1)


def _candidates(one: Thumbnails, other: Thumbnails, block: slice, turned: bool) -> tuple[Tensor, Tensor]:
    """Pairs (P,) that may be copies: indices in ``one`` and in the ``block`` of ``other``."""
    views = other.coarse[:, block].float()
    whole, moved = views[0], torch.cat([views[1:], *([_turned(views[0])] if turned else [])])
    every = torch.arange(0, len(one), sampling_step(len(one), len(other)))
    parts = []
    for rows in every.split(BLOCK):
        those = one.coarse[:, rows].float()
        highest = (those.flatten(0, 1) @ whole.T).abs_().view(*those.shape[:2], -1).amax(0).T
        highest = torch.maximum(highest, (moved.flatten(0, 1) @ those[0].T).abs_().view(*moved.shape[:2], -1).amax(0))
        best, i = highest.topk(min(BEST, len(rows)))
        parts.append((best, rows[i]))
    best, i = (torch.cat(columns, 1) for columns in zip(*parts, strict=True))
    best, place = best.topk(min(BEST, best.shape[1]))
    j, k = (best >= MAYBE).nonzero(as_tuple=True)
    return i[j, place[j, k]], j + block.start


def _turned(coarse: Tensor) -> Tensor:
    """The coarse detail (N, 256) as mirrored and turned pictures have it (7, N, 256), in the order of `TURNS`."""
    pictures = coarse.view(len(coarse), SIDE // 2, SIDE // 2)
    axes = [[axis for axis, scale in ((2, view[0]), (1, view[2])) if scale < 0] for view in TURNS]
    turns = [(pictures.mT if view[4] else pictures).flip(flips) for view, flips in zip(TURNS, axes, strict=True)]
    return torch.stack(turns[1:]).flatten(2)


def _likeness(one: Thumbnails, other: Thumbnails, i: Tensor, j: Tensor, turned: bool) -> Tensor:
    """The highest absolute cosine (P,) of pairs while one of each is aligned with the other, which stays whole."""
    those, these = one.coarse[:, i].float(), other.coarse[:, j].float()
    moved = torch.cat([these, *([_turned(these[0])] if turned else [])])
    cosines = torch.cat([(moved * those[0]).sum(2), (those[1:] * these[0]).sum(2)]).abs_()
    views = [WHOLE, *CROPS, *(TURNS[1:] if turned else []), *CROPS]
    which = cosines.argmax(0)
    moves_one = (which >= len(views) - len(CROPS))[:, None, None]
    first, second = one.pictures[i].float(), other.pictures[j].float()
    target = _detail(torch.where(moves_one, second, first))
    return _aligned(torch.where(moves_one, first, second), target, torch.tensor(views)[which])


def _aligned(pictures: Tensor, target: Tensor, views: Tensor) -> Tensor:
    """The highest absolute cosine (P,) with the detail ``target`` on the way from ``views`` (P, 5) to alignment."""
    likeness = torch.zeros(len(pictures))
    for _ in range(STEPS):
        seen = _detail(_seen(pictures, views))
        cosine = (seen * target).sum((1, 2))
        likeness = torch.maximum(likeness, cosine.abs())
        views = _nudged(views, seen, target * cosine.sign()[:, None, None])
    return likeness


def _nudged(views: Tensor, seen: Tensor, target: Tensor) -> Tensor:
    """The views (P, 5) after a Gauss-Newton step that brings what is ``seen`` (P, S, S) closer to ``target``."""
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    across = F.pad(seen[:, :, 2:] - seen[:, :, :-2], (1, 1)) * SIDE / 4
    down = F.pad(seen[:, 2:] - seen[:, :-2], (0, 0, 1, 1)) * SIDE / 4
    slopes = torch.stack([across * at, across, down * at[:, None], down], -1).flatten(1, 2)
    normal = slopes.mT @ slopes
    damping = torch.diag_embed(1e-3 * normal.diagonal(dim1=1, dim2=2) + 1e-6)
    step = torch.linalg.solve(normal + damping, slopes.mT @ (target - seen).flatten(1)[:, :, None])
    scale, shift = views[:, :4].view(-1, 2, 2).unbind(2)
    larger, further = step.view(-1, 2, 2).clamp(-0.05, 0.05).unbind(2)
    moved = torch.stack([scale * (1 + larger), shift + scale * further], 2).flatten(1)
    return torch.cat([moved, views[:, 4:]], 1)


def _seen(pictures: Tensor, views: Tensor) -> Tensor:
    """Pictures (N, S, S) in views (N, 5); beyond an edge its pixels are repeated."""
    pictures = torch.where(views[:, 4:, None] > 0, pictures.mT, pictures)
    scale, shift = views[:, :4].view(-1, 2, 2).unbind(2)
    affine = torch.cat([torch.diag_embed(scale), shift[:, :, None]], 2)
    grid = F.affine_grid(affine, [len(views), 1, *pictures.shape[1:]], align_corners=False)
    return F.grid_sample(pictures[:, None], grid, "bicubic", "border", align_corners=False)[:, 0]


def _detail(pictures: Tensor) -> Tensor:
    """The local contrast of pictures (N, S, S), of norm 1; zeros where a picture has none."""
    width = pictures.shape[1] // 5 | 1

    def around(values: Tensor) -> Tensor:
        return F.avg_pool2d(values[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]

    contrast = pictures - around(pictures)
    spread = around(contrast.square()).sqrt()
    contrast = contrast / (spread + spread.flatten(1).median(1).values[:, None, None] + 1e-3)
    return F.normalize(contrast.flatten(1)).view_as(pictures)
