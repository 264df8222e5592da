"""Synthetic anomalies for whole batches: CutPaste, FPI, PII and NSA as recipes of one scheme.

Patches are chosen on the object of a source image, perhaps shifted and resized, and blended into an image; a network
learns to find what has changed. The scheme, and the four recipes, are those in which Natural Synthetic Anomalies
(https://arxiv.org/abs/2109.15222) compares them; its constants are pixels of 224 x 224, and are scaled to other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_sagan.transforms.crops import interpolate, patch_corners, patch_pixels, pixels_at, window_places
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
SATURATED = 20  # grey levels of change from which on a logistic label is 1 but for 4e-4
WORTH_A_WINDOW = 2**13  # pixels, saved by going on with a smaller window
LEVEL, OBJECT_BIT, MASK_BIT = 255, 8, 9  # of a pixel in one int16: its grey level, and two flags
OBJECT, MASK = 1 << OBJECT_BIT, 1 << MASK_BIT


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
    source: Tensor | None,
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
        source: what patches are taken from, of the same shape and range; None for the image before each one in the
            batch. Recipes that are ``own`` do not use it.
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
    objects = _objects(levels, object_level)
    if recipe.own or source is None:
        around = 0 if recipe.own else 1
        source_levels, source_objects = (x.roll(around, 0) if around else x for x in (levels, objects))
    else:
        source_levels = _to_levels(source, value_range)
        source_objects = _objects(source_levels, object_level)
    opacity, more, draws = uniform[:, 0], uniform[:, 1:PATCHES], uniform[:, PATCHES:].unflatten(1, (PATCHES, DRAWS))
    opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * opacity if recipe.opacity else torch.ones_like(opacity)
    wanted = torch.cat([torch.ones_like(more[:, :1], dtype=torch.bool), more < 0.5], dim=1)
    patches = choose_patches(objects, source_objects, draws, wanted, recipe.shift, recipe.resize, fixed)
    state, source_state = (
        x + OBJECT * y[:, None].to(torch.int16) for x, y in ((levels, objects), (source_levels, source_objects))
    )
    for number in range(PATCHES):
        patch = Patches(*(x[:, number] for x in patches))
        for member, window in _chunks(patch, levels.shape[-2:], fixed):
            _blend(state, source_state, Patches(*(x[member] for x in patch)), opacity[member], recipe, member, window)
    change = (state & LEVEL) - levels
    label = _labels(change, state >> MASK_BIT, opacity, recipe)[:, None]
    wide = torch.promote_types(image.dtype, torch.float32)
    black, white = value_range
    made = torch.add(image.to(wide), change.to(wide), alpha=(white - black) / 255)
    return made.to(image.dtype), label.to(image.dtype)


def _to_levels(image: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Grey levels from 0 to 255, int16."""
    black, white = value_range
    return (
        torch.sub(image.float(), black).mul_(255 / (white - black)).round_().clamp_(0, 255).to(torch.int16).contiguous()
    )


def _scaled(pixels: float, image: Tensor) -> int:
    """A length in pixels of 224 x 224 images in those of ``image``."""
    return round(pixels * min(image.shape[-2:]) / SIDE)


def _objects(levels: Tensor, object_level: int) -> Tensor:
    """Where images (B, C, H, W) are brighter than the background: uint8 (B, H, W), 0 and 1."""
    grey = levels[:, 0].clone() if levels.shape[1] == 1 else levels.float().mean(1)
    return majority(grey.gt_(object_level).to(torch.uint8), _scaled(OBJECT_RADIUS, levels))


def _chunks(patch: Patches, sides: Sequence[int], fixed: bool) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Images to blend at a time, and a window in which their patches lie: patches of about the same size together."""
    if fixed:
        yield torch.arange(len(patch.valid), device=patch.valid.device), (sides[0], sides[1])
        return
    member = patch.valid.nonzero()[:, 0]
    longest, order = patch.height.maximum(patch.width)[member].sort(descending=True, stable=True)
    sizes, start = [int(size) for size in longest.tolist()], 0
    for end in range(1, len(sizes) + 1):
        last = end == len(sizes)
        if last or (sizes[start] ** 2 - sizes[end] ** 2) * (len(sizes) - end) > WORTH_A_WINDOW:
            yield member[order[start:end]], (min(sizes[start], sides[0]), min(sizes[start], sides[1]))
            start = end


def _blend(
    state: Tensor,
    source_state: Tensor,
    patch: Patches,
    opacity: Tensor,
    recipe: Recipe,
    member: Tensor,
    window: tuple[int, int],
) -> None:
    """Blend a patch each into the images ``member`` of ``state``, in place, in the windows around the patches."""
    corner = [x.clamp(max=n - k) for x, n, k in zip((patch.top, patch.left), state.shape[-2:], window, strict=True)]
    rows, cols = (x[:, None] + torch.arange(k, device=x.device) for x, k in zip(corner, window, strict=True))
    within = rows - patch.top[:, None], cols - patch.left[:, None]
    valid, place = patch.valid[:, None], patch[1:5]
    if recipe.blend == "mixed":
        least = LEAST_CLONE * state.shape[-2] * state.shape[-1] / SIDE**2
        valid = valid & ((patch.height - 2) * (patch.width - 2) >= least)[:, None]
    inside_rows = (within[0] >= 0) & (within[0] < patch.height[:, None]) & valid
    inside_cols = (within[1] >= 0) & (within[1] < patch.width[:, None])
    inside = (inside_rows[:, None, :, None] & inside_cols[:, None, None, :]).to(torch.int16)

    places = window_places(state.shape, member, rows, cols)
    before = pixels_at(state, places)
    if recipe.resize:
        corners, shares = patch_corners(source_state, member, (*place, *patch[7:]), *within)
        new = interpolate([x & LEVEL for x in corners], shares).round_().to(torch.int16)
        on_object = interpolate([x >> OBJECT_BIT for x in corners], shares).round_().to(torch.int16)
    else:
        pixels = patch_pixels(source_state, member, place, *within)
        new, on_object = pixels & LEVEL, pixels >> OBJECT_BIT
    old, kept = before & LEVEL, before & OBJECT
    labeled = (on_object | (kept >> OBJECT_BIT)) * inside
    share = opacity[:, None, None, None]
    if recipe.blend == "swap":
        new = old + (new - old) * labeled
    elif recipe.blend == "uniform":
        new = old + (share * (new - old).float()).floor_().to(torch.int16) * labeled
    else:
        rectangles = (patch.top - corner[0], patch.left - corner[1], patch.height, patch.width)
        wide = old.float()
        added = mixed_clone(wide, new.float(), rectangles, window, max(_scaled(CLONE_MARGIN, state), 1))
        new = old + (wide + share * added).round_().clamp_(0, 255).to(torch.int16).sub_(old) * inside
    # A later rectangle decides alone which of its pixels may be labeled.
    marked = before + (labeled * MASK - (before & MASK)) * inside
    state.view(-1).scatter_(0, places.view(-1), ((marked - (before & LEVEL)) + new).view(-1))


def _labels(change: Tensor, mask: Tensor, opacity: Tensor, recipe: Recipe) -> Tensor:
    """Labels (B, H, W) in [0, 1], float32, from changes of grey level and where they count."""
    difference = change.abs()
    grey = difference[:, 0] if change.shape[1] == 1 else difference.float().mean(1).round_()
    grey = (grey.to(torch.int16) * mask[:, 0]).to(torch.uint8)
    changed = majority(grey.clone().gt_(1), _scaled(CHANGE_RADIUS, change))
    if recipe.label == "opacity":
        return changed.float().mul_(opacity[:, None, None])
    median = disc_median(grey * changed, _scaled(LABEL_RADIUS, change), SATURATED)
    return median.float().sub_(4).div_(2).sigmoid_().mul_(changed.float())
