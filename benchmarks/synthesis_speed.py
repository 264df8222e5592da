"""Synthetic anomalies in batches against a plain loop of OpenCV, NumPy and SciPy that makes them image by image.

    OMP_NUM_THREADS=2 python benchmarks/synthesis_speed.py [--images 64] [--rounds 5] [--folder PATH]

The loop is our transcription of what the published comparison does for each image: NumPy's draws, one try after the
other, OpenCV's medians, resizing and seamless cloning, SciPy's median over a disc. Both take uint8 images and return
float32 tensors. They take turns; a ratio is the median over rounds, with its range. Both ratios are given: of wall
time, and of processor time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from monai_sagan.data.batches import to_unit_range
from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.transforms.placing import width_bounds
from monai_sagan.transforms.synthesis import CUTPASTE, FPI, NSA, PII, UNIFORM_NUMBERS, Recipe, synthesize

RECIPES = {"CutPaste": CUTPASTE, "FPI": FPI, "PII": PII, "NSA": NSA}
Pixels = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--folder", type=Path, help="of image files; phantoms where it is left out")
    args = parser.parse_args()
    print(f"torch {torch.__version__} with {torch.get_num_threads()} threads, OpenCV {cv2.__version__}")
    for side in args.sides:
        images = load(args.folder, side, args.images)
        for name, recipe in RECIPES.items():
            measure(name, recipe, images, args.rounds)


def load(folder: Path | None, side: int, count: int) -> torch.Tensor:
    """Images as uint8 (N, 1, side, side)."""
    if folder is None:
        pictures = [Image.fromarray(phantom_image(0, i, False, 256)[0]) for i in range(count)]
    else:
        pictures = [Image.open(path).convert("L") for path in sorted(folder.iterdir())[:count]]
    arrays = [np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR)) for picture in pictures]
    return torch.from_numpy(np.stack(arrays))[:, None]


def measure(name: str, recipe: Recipe, images: torch.Tensor, rounds: int) -> None:
    draw = np.random.RandomState(0)
    arrays = images[:, 0].numpy()

    def plain() -> None:
        pairs = [loop_image(arrays[i], arrays[i - 1], recipe, draw) for i in range(len(arrays))]
        torch.stack([torch.from_numpy(image).float().div(255) for image, _ in pairs])
        torch.stack([torch.from_numpy(label).float() for _, label in pairs])

    def batched() -> None:
        synthesize(to_unit_range(images), None, torch.rand(len(images), UNIFORM_NUMBERS), recipe)

    for code in (plain, batched):
        code()
    wall, processor, rates = [], [], []
    for _ in range(rounds):
        (one, one_processor), (other, other_processor) = timed(plain), timed(batched)
        wall.append(one / other)
        processor.append(one_processor / other_processor)
        rates.append((len(images) / one, len(images) / other))
    print(
        f"{images.shape[-1]} px {name}: loop {statistics.median(r[0] for r in rates):.0f} images/s, "
        f"batches {statistics.median(r[1] for r in rates):.0f}, {spread(wall)} times; "
        f"processor time {spread(processor)} times",
        flush=True,
    )


def timed(code: Callable[[], None]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    code()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}]"


def loop_image(image: Pixels, source: Pixels, recipe: Recipe, draw: np.random.RandomState) -> tuple[Pixels, Pixels]:
    """One image, uint8 (H, W), with synthetic anomalies, and the labels of its pixels."""
    side, scale = len(image), len(image) / 224
    source = image.copy() if recipe.own else source
    opacity = draw.uniform(0.05, 0.95) if recipe.opacity else 1.0
    objects, source_objects = object_of(image, scale), object_of(source, scale)
    changed, mask = image.copy(), np.zeros((side, side), bool)
    for number in range(3):
        if number == 0 or draw.randint(2):
            changed = add_patch(changed, source, objects, source_objects, mask, opacity, recipe, draw)
    difference = np.abs(image * mask.astype(np.int16) - changed * mask.astype(np.int16))
    change = median((difference > 1).astype(np.uint8), round(2 * scale))
    if recipe.label == "opacity":
        return changed, opacity * change
    radius = round(5 * scale)
    rows, cols = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = rows * rows + cols * cols <= radius * radius
    v = ndimage.median_filter(difference * change, footprint=disc, mode="nearest")
    return changed, change / (1 + np.exp(-(v - 4) / 2))


def object_of(image: Pixels, scale: float) -> Pixels:
    return median((image > 20).astype(np.uint8), round(3 * scale)).astype(bool)


def median(image: Pixels, radius: int) -> Pixels:
    return cv2.medianBlur(image, 2 * radius + 1)


def add_patch(
    image: Pixels,
    source: Pixels,
    objects: Pixels,
    source_objects: Pixels,
    mask: Pixels,
    opacity: float,
    recipe: Recipe,
    draw: np.random.RandomState,
) -> Pixels:
    """The image with one more patch; ``mask`` is changed in place."""
    side = len(image)
    low, high = width_bounds(side)
    half_height, half_width = (int(np.clip((0.05 + draw.gamma(2, 0.03)) * side, low, high)) for _ in range(2))
    for _ in range(200):
        row, col = draw.randint(low, side - low, 2)
        box = np.s_[max(row - half_height, 0) : row + half_height, max(col - half_width, 0) : col + half_width]
        if np.mean(source_objects[box]) > 0.7:
            break
    else:
        return image
    patch, patch_object = source[box], source_objects[box]
    height, width = patch.shape
    top, left = box[0].start, box[1].start
    if recipe.resize:
        size = np.clip(draw.normal(1, 0.5), 0.7, 1.3)
        new_height = np.clip(size * height, low, high)
        new_width = np.clip(int(new_height / height * width), low, high)
        new_height = np.clip(int(new_width / width * height), low, high)
        height, width = int(new_height), int(new_width)
        patch = cv2.resize(patch, (width, height))
        patch_object = cv2.resize(patch_object.astype(np.uint8), (width, height)).astype(bool)
    if recipe.shift:
        if np.mean(patch_object) <= 0.7:
            return image
        for _ in range(200):
            top = draw.randint(height // 2 + 1, side - height // 2 - 1) - height // 2
            left = draw.randint(width // 2 + 1, side - width // 2 - 1) - width // 2
            below = objects[top : top + height, left : left + width]
            if np.sum(patch_object & below) > 0.7 * np.sum(patch_object):
                break
        else:
            return image
    box = np.s_[top : top + height, left : left + width]
    labeled = patch_object | objects[box]
    if recipe.blend == "mixed":
        return clone(image, patch, mask, labeled, top, left, opacity)
    changed = image.copy()
    mixed = (1 - opacity) * changed[box] + opacity * patch if recipe.blend == "uniform" else patch
    changed[box][labeled] = mixed[labeled]
    mask[box] = labeled
    return changed


def clone(image: Pixels, patch: Pixels, mask: Pixels, labeled: Pixels, top: int, left: int, opacity: float) -> Pixels:
    height, width = patch.shape
    opaque = np.full((height, width), np.ceil(255 * opacity), np.uint8)
    opaque[[0, -1]] = opaque[:, [0, -1]] = 0
    if (opaque > 0).sum() < 50 * (len(image) / 224) ** 2 or min(height, width) < 5:
        return image
    color, color_patch = np.zeros((*image.shape, 3), np.uint8), np.zeros((height, width, 3), np.uint8)
    color[..., 0], color_patch[..., 0] = image, patch
    center = left + 1 + (width - 2) // 2, top + 1 + (height - 2) // 2
    mask[top : top + height, left : left + width] = labeled
    return cv2.seamlessClone(color_patch, color, opaque, center, cv2.MIXED_CLONE)[..., 0]


if __name__ == "__main__":
    main()
