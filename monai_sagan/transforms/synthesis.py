"""Synthetic anomalies for whole batches: CutPaste, FPI, PII and NSA as recipes of one scheme.

Patches are chosen on the object of a source image, perhaps shifted and resized, and blended into an image; a network
learns to find what has changed. The scheme, and the four recipes, are those in which Natural Synthetic Anomalies
(https://arxiv.org/abs/2109.15222) compares them; its constants are pixels of 224 x 224, and are scaled to other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_sagan.transforms.crops import sample_patches, window_places
from monai_sagan.transforms.medians import disc_median, majority
from monai_sagan.transforms.placing import DRAWS, PATCHES, Patches, choose_patches
from monai_sagan.transforms.poisson import mixed_clone

__all__ = ["CUTPASTE", "FPI", "NSA", "PII", "UNIFORM_NUMBERS", "Recipe", "synthesize"]

UNIFORM_NUMBERS = 3 + PATCHES * DRAWS  # that an image takes: opacity, two for the number of patches, the patches
OPACITY = (0.05, 0.95)
SIDE = 224  # of the images for which the pixel counts below are meant
OBJECT_RADIUS, CHANGE_RADIUS, LABEL_RADIUS = 3, 2, 5  # of the medians of object, change, and labels
CLONE_MARGIN = 4  # see `mixed_clone`
LEAST_CLONE = 50  # pixels of a clone's mask
SATURATED = 24  # grey levels of change from which on a logistic label is 1 but for 5e-5
CHUNK = 2**16  # pixels that a CPU blends at a time


@dataclass(frozen=True)
class Recipe:
    """How a kind of synthetic anomaly is made.

    Args:
        own: the source is the image itself, not another one.
        shift: patches go to another place.
        resize: they change their size on the way.
        blend: ``"swap"`` replaces pixels, ``"uniform"`` mixes grey levels by a random opacity, ``"mixed"`` clones
            seamlessly, see `mixed_clone`.
        opacity: draw one; else it is 1.
        label: of a changed pixel: ``"opacity"``, which is 1 where none is drawn, or ``"logistic"``, by how much the
            neighborhood has changed.
    """

    own: bool = False
    shift: bool = False
    resize: bool = False
    blend: str = "swap"
    opacity: bool = False
    label: str = "opacity"


CUTPASTE = Recipe(own=True, shift=True)
FPI = Recipe(blend="uniform", opacity=True)
PII = Recipe(blend="mixed", opacity=True)
NSA = Recipe(shift=True, resize=True, blend="mixed", label="logistic")


def synthesize(
    image: Tensor,
    source: Tensor,
    uniform: Tensor,
    recipe: Recipe,
    object_level: int = 20,
    value_range: tuple[float, float] = (-1.0, 1.0),
    fixed: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Images with synthetic anomalies, and the labels of their pixels.

    Blending is computed in the 256 grey levels of ``value_range``; pixels that do not change keep their value.

    Args:
        image: (B, C, H, W).
        source: what patches are taken from, of the same shape; of recipes that are ``own`` not used.
        uniform: (B, `UNIFORM_NUMBERS`) in [0, 1).
        recipe: the kind of anomaly.
        object_level: pixels of a higher grey level belong to the object, on which patches must lie.
        value_range: of the images: black and white.
        fixed: use shapes that do not depend on values, as a captured step must; None does so on a GPU. A CPU is faster
            with windows of the patches' sizes.

    Returns:
        the changed images (B, C, H, W), and labels (B, 1, H, W) in [0, 1], 0 where nothing has changed.

    Example:
        >>> image = torch.rand(2, 1, 64, 64)
        >>> made, label = synthesize(image, image.flip(0), torch.rand(2, UNIFORM_NUMBERS), NSA)
        >>> made.shape, label.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 1, 64, 64]))
    """
    fixed = image.is_cuda if fixed is None else fixed
    uniform = uniform.float()
    levels = _to_levels(image, value_range)
    source_levels = levels if recipe.own else _to_levels(source, value_range)
    objects = _objects(levels, object_level)
    source_objects = objects if recipe.own else _objects(source_levels, object_level)
    opacity, more, draws = uniform[:, 0], uniform[:, 1:PATCHES], uniform[:, PATCHES:].unflatten(1, (PATCHES, DRAWS))
    opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * opacity if recipe.opacity else torch.ones_like(opacity)
    wanted = torch.cat([torch.ones_like(more[:, :1], dtype=torch.bool), more < 0.5], dim=1)
    patches = choose_patches(objects, source_objects, draws, wanted, recipe.shift, recipe.resize, fixed)
    changed, mask = _blend_all(levels, source_levels, objects, source_objects, patches, opacity, recipe, fixed)
    black, white = value_range
    made = torch.where(changed == levels, image, changed * ((white - black) / 255) + black).to(image.dtype)
    return made, _labels(levels, changed, mask, opacity, recipe)[:, None].to(image.dtype)


def _to_levels(image: Tensor, value_range: tuple[float, float]) -> Tensor:
    black, white = value_range
    return ((image.float() - black) * (255 / (white - black))).round_().clamp_(0, 255).to(torch.uint8)


def _scaled(pixels: float, image: Tensor) -> int:
    """A length in pixels of 224 x 224 images in those of ``image``."""
    return round(pixels * min(image.shape[-2:]) / SIDE)


def _objects(levels: Tensor, object_level: int) -> Tensor:
    """Where images (B, C, H, W) are brighter than the background: bool (B, H, W)."""
    grey = levels[:, 0] if levels.shape[1] == 1 else levels.float().mean(1)
    return majority(grey > object_level, _scaled(OBJECT_RADIUS, levels))


def _blend_all(
    levels: Tensor,
    source: Tensor,
    objects: Tensor,
    source_objects: Tensor,
    patches: Patches,
    opacity: Tensor,
    recipe: Recipe,
    fixed: bool,
) -> tuple[Tensor, Tensor]:
    """The grey levels with all patches, each on the result of those before, and where they may be labeled."""
    changed, mask = levels.clone(), torch.zeros_like(objects)
    for number in range(PATCHES):
        patch = Patches(*(x[:, number] for x in patches))
        for member, window in _chunks(patch, levels.shape[-2:], fixed):
            _blend(changed, mask, source, objects, source_objects, patch, opacity, recipe, member, window)
    return changed, mask


def _chunks(patch: Patches, sides: tuple[int, int], fixed: bool) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Images to blend at a time, and the window in which their patches lie: patches of about the same size together."""
    if fixed:
        yield torch.arange(len(patch.valid), device=patch.valid.device), sides
        return
    member = patch.valid.nonzero()[:, 0]
    sizes, order = patch.height.maximum(patch.width)[member].sort(descending=True, stable=True)
    largest, start = sizes.tolist(), 0
    while start < len(largest):
        window = min(largest[start], sides[0]), min(largest[start], sides[1])
        end = start + max(CHUNK // (window[0] * window[1]), 1)
        yield member[order[start:end]], window
        start = end


def _blend(
    changed: Tensor,
    mask: Tensor,
    source: Tensor,
    objects: Tensor,
    source_objects: Tensor,
    patch: Patches,
    opacity: Tensor,
    recipe: Recipe,
    member: Tensor,
    window: tuple[int, int],
) -> None:
    """Blend one patch into each image of ``member``, in place: in the window around it."""
    patch = Patches(*(x[member] for x in patch))
    corner = [
        start.clamp(max=side - size)
        for start, side, size in zip((patch.top, patch.left), changed.shape[-2:], window, strict=True)
    ]
    rows, cols = (
        start[:, None] + torch.arange(size, device=start.device) for start, size in zip(corner, window, strict=True)
    )
    within_rows, within_cols = rows - patch.top[:, None], cols - patch.left[:, None]
    place = patch[1:5] + (patch[7:] if recipe.resize else ())
    inside = ((within_rows >= 0) & (within_rows < patch.height[:, None]))[:, None, :, None]
    inside = inside & ((within_cols >= 0) & (within_cols < patch.width[:, None]))[:, None, None, :]
    valid = patch.valid
    if recipe.blend == "mixed":
        least = LEAST_CLONE * changed.shape[-2] * changed.shape[-1] / SIDE**2
        valid = valid & ((patch.height - 2) * (patch.width - 2) >= least)
    inside = inside & valid[:, None, None, None]

    places = window_places(changed.shape, member, rows, cols)
    old = changed.take(places).float()
    new = sample_patches(source, member, place, within_rows, within_cols)
    object_places = window_places((len(mask), 1, *mask.shape[1:]), member, rows, cols)
    on_object = sample_patches(source_objects[:, None], member, place, within_rows, within_cols) > 0.5
    labeled = inside & (on_object | objects.take(object_places))
    share = opacity[member][:, None, None, None]
    if recipe.blend == "swap":
        new = torch.where(labeled, new, old)
    elif recipe.blend == "uniform":
        new = torch.where(labeled, (old + share * (new - old)).floor(), old)
    else:
        rectangles = (patch.top - corner[0], patch.left - corner[1], patch.height, patch.width)
        added = mixed_clone(old, new.round(), rectangles, window, max(_scaled(CLONE_MARGIN, changed), 1))
        new = torch.where(inside, (old + share * added).round().clamp(0, 255), old)
    changed.view(-1)[places] = new.to(torch.uint8)
    mask.view(-1)[object_places] = torch.where(inside, labeled, mask.take(object_places))


def _labels(levels: Tensor, changed: Tensor, mask: Tensor, opacity: Tensor, recipe: Recipe) -> Tensor:
    """Labels (B, H, W) in [0, 1], from how much grey levels have changed."""
    difference = levels.maximum(changed) - levels.minimum(changed)
    grey = difference[:, 0] if levels.shape[1] == 1 else difference.float().mean(1)
    change = majority((grey > 1) & mask, _scaled(CHANGE_RADIUS, levels))
    if recipe.label == "opacity":
        return change * opacity[:, None, None]
    median = disc_median(grey.round().to(torch.uint8) * change, _scaled(LABEL_RADIUS, levels), SATURATED)
    return change * torch.sigmoid((median.float() - 4) / 2)
