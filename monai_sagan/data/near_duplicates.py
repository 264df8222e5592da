"""Copies among images: encoded again, resized, cropped, mirrored, inverted, with other grey levels or with noise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from monai_sagan.data.array_store import StoredImages, in_parts

__all__ = ["NEAR", "Thumbnails", "near_duplicates"]

SIDE = 32  # of a thumbnail, in pixels
NEAR = 0.94  # cosine of the detail of two aligned thumbnails, from which on they are copies
MAYBE = 0.84  # cosine of their coarse detail, from which on two are aligned
BEST = 5  # pairs of an image that are aligned, at most
STEPS = 4  # of an alignment
CHUNK = 2**20  # pixels that are shrunk at a time
BLOCK, PAIRS = 1024, 512  # images that are compared, and pairs that are aligned, at a time

View = tuple[float, float, float, float]  # of a picture: horizontal scale and shift, vertical scale and shift
WHOLE: View = (1.0, 0.0, 1.0, 0.0)
MIRRORED: View = (-1.0, 0.0, 1.0, 0.0)
CROPS: list[View] = [(0.95, x, 0.95, y) for x in (-0.03, 0.03) for y in (-0.03, 0.03)]
Views = list[tuple[View, View]]  # of the one and of the other picture of pairs, of which one is seen whole


class Thumbnails:
    """What is compared of N images: grey pictures (N, 32, 32) and their coarse detail, as unit vectors, by the view.

    Args:
        images: uint8 (N, C, H, W); of stored ones some are read at a time.
    """

    def __init__(self, images: Tensor | StoredImages) -> None:
        self.pictures = torch.empty(len(images), SIDE, SIDE, dtype=torch.float16)
        self.coarse = {view: torch.empty(len(images), SIDE**2 // 4).half() for view in (WHOLE, MIRRORED, *CROPS)}
        for part in in_parts(len(images), images.shape, CHUNK):
            grey = images[part].float().mean(1, keepdim=True)
            small = F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)[:, 0]
            self.pictures[part] = small
            for view, vectors in self.coarse.items():
                seen = _seen(small, torch.tensor([view]).expand(len(small), 4))
                vectors[part] = _detail(F.avg_pool2d(seen[:, None], 2)[:, 0]).flatten(1)

    def __len__(self) -> int:
        return len(self.pictures)


def near_duplicates(
    images: Tensor | Thumbnails, others: Tensor | Thumbnails, mirrored: bool = True
) -> list[tuple[int, int, float]]:
    """Pairs of nearly the same images among ``images`` and ``others``, uint8 (N, C, H, W) and (M, C, H, W).

    Compared is the local contrast of thumbnails: how a pixel differs from those around it, by how much these vary.
    Pairs that are alike at 16 x 16, as they are, with one of them cropped by 5 %, or mirrored, are aligned and compared
    at 32 x 32. Copies have a cosine of 0.94 or more, or of -0.94 or less: inverted ones, as by a MONOCHROME1 that the
    header got wrong. For each of ``others`` its five likeliest pairs are aligned, so no set of look-alikes takes long.
    How many copies are found, and how many others are taken for copies: ``benchmarks/near_duplicates.py``.

    Args:
        images: or their thumbnails.
        others: or their thumbnails.
        mirrored: whether mirrored copies count.

    Returns:
        index in ``images``, index in ``others``, the cosine without its sign.
    """
    one, other = (part if isinstance(part, Thumbnails) else Thumbnails(part) for part in (images, others))
    views = [(WHOLE, WHOLE), *((crop, WHOLE) for crop in CROPS), *((WHOLE, crop) for crop in CROPS)]
    views += [(WHOLE, MIRRORED)] * mirrored
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(other) if len(one) else 0, BLOCK):
        i, j, which = _candidates(one, other, slice(start, start + BLOCK), views)
        for k in range(0, len(i), PAIRS):
            part = slice(k, k + PAIRS)
            pair = one.pictures[i[part]].float(), other.pictures[j[part]].float()
            likeness = _likeness(*pair, [views[v] for v in which[part]])
            rows = zip(i[part].tolist(), j[part].tolist(), likeness.tolist(), strict=True)
            found += (row for row in rows if row[2] >= NEAR)
    return sorted(found)


def _candidates(one: Thumbnails, other: Thumbnails, block: slice, views: Views) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (P,) that may be copies: indices in ``one``, in ``other`` (of the ``block``), in ``views``."""
    parts = []
    for start in range(0, len(one), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = [(other.coarse[b][block].float() @ one.coarse[a][rows].float().T).abs() for a, b in views]
        highest, which = torch.stack(cosines).max(0)
        best, i = highest.topk(min(BEST, highest.shape[1]))
        parts.append((best, i + start, which.gather(1, i)))
    best, i, which = (torch.cat(columns, 1) for columns in zip(*parts, strict=True))
    best, place = best.topk(min(BEST, best.shape[1]))
    j, k = (best >= MAYBE).nonzero(as_tuple=True)
    return i[j, place[j, k]], j + block.start, which[j, place[j, k]]


def _likeness(one: Tensor, other: Tensor, views: Views) -> Tensor:
    """How alike pictures (P, S, S) are once they are aligned, from ``views`` on: the highest cosine, 0 to 1."""
    moves_other = torch.tensor([b != WHOLE for _, b in views])[:, None, None]
    moved, target = torch.where(moves_other, other, one), _detail(torch.where(moves_other, one, other))
    view = torch.tensor([a if b == WHOLE else b for a, b in views])
    likeness = torch.zeros(len(one))
    for _ in range(STEPS):
        seen = _detail(_seen(moved, view))
        cosine = (seen * target).sum((1, 2))
        likeness = torch.maximum(likeness, cosine.abs())
        view = _nudged(view, seen, target * cosine.sign()[:, None, None])
    return likeness


def _nudged(views: Tensor, seen: Tensor, target: Tensor) -> Tensor:
    """The views (P, 4) that bring what is ``seen`` (P, S, S) nearer to ``target``: a step of Gauss and Newton."""
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    across = F.pad(seen[:, :, 2:] - seen[:, :, :-2], (1, 1)) * SIDE / 4
    down = F.pad(seen[:, 2:] - seen[:, :-2], (0, 0, 1, 1)) * SIDE / 4
    slopes = torch.stack([across * at, across, down * at[:, None], down], -1).flatten(1, 2)
    normal = slopes.mT @ slopes
    damping = torch.diag_embed(1e-3 * normal.diagonal(dim1=1, dim2=2) + 1e-6)
    step = torch.linalg.solve(normal + damping, slopes.mT @ (target - seen).flatten(1)[:, :, None])
    scale, shift = views.view(-1, 2, 2).unbind(2)
    larger, further = step.view(-1, 2, 2).clamp(-0.05, 0.05).unbind(2)
    return torch.stack([scale * (1 + larger), shift + scale * further], 2).flatten(1)


def _seen(pictures: Tensor, views: Tensor) -> Tensor:
    """Pictures (N, S, S) through views (N, 4); beyond an edge its pixels go on."""
    scale, shift = views.view(-1, 2, 2).unbind(2)
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
