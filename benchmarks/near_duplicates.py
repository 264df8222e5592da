"""How many copies of images the audit finds, and how many images of others it takes for copies.

    python benchmarks/near_duplicates.py [FOLDER ...] [--count 500]

Each FOLDER holds images; without one, phantoms are drawn. Of the first ``--count`` images a copy of each kind is made
at the size of its file, then all are resized to 64 x 64, as for training. Recall is the share of images whose own copy
is found among all copies. Alarms are pairs among all images of a folder that are taken for near-duplicates, other than
those with the same pixels, listed with their cosine: look at them, for some may be copies, or of one patient.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from monai_sagan.data.datasets.phantom import phantom_image
from monai_sagan.data.formats.decode import is_image_file, read_image
from monai_sagan.data.near_duplicates import Thumbnails, near_duplicates

Draw = np.random.Generator
SIZE = (64, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--listed", type=int, default=10)
    args = parser.parse_args()
    for folder in args.folders or [None]:
        measure(*(phantoms() if folder is None else images_of(folder)), args.count, args.listed)


def phantoms() -> tuple[list[str], list[Image.Image]]:
    """As many as the bundle draws, half of them abnormal."""
    names = [f"phantom {i}" for i in range(1600)]
    return names, [Image.fromarray(phantom_image(0, i, bool(i % 2))[0]) for i in range(len(names))]


def images_of(folder: Path) -> tuple[list[str], list[Image.Image]]:
    paths = sorted(path for path in folder.rglob("*") if is_image_file(path))
    return [str(path) for path in paths], [read_image(path).convert("L") for path in paths]


def measure(names: list[str], images: list[Image.Image], count: int, listed: int) -> None:
    pixels = as_pixels(images)
    begun = time.monotonic()
    all_of_them = Thumbnails(pixels)
    found = sorted((likeness, i, j) for i, j, likeness in near_duplicates(all_of_them, all_of_them) if i < j)
    seconds = time.monotonic() - begun
    alarms = [(likeness, i, j) for likeness, i, j in reversed(found) if not torch.equal(pixels[i], pixels[j])]
    pairs = math.comb(len(images), 2)
    print(f"{Path(names[0]).parent}: {len(images)} images, {pairs} pairs, {len(alarms)} alarms, {seconds:.1f} s")
    for likeness, i, j in alarms[:listed]:
        print(f"    {likeness:.3f} {Path(names[i]).name} {Path(names[j]).name}")
    originals = Thumbnails(pixels[:count])
    for name, change in KINDS.items():
        rng = np.random.default_rng(0)
        copies = as_pixels([change(image, rng) for image in images[:count]])
        own = {i for i, j, _ in near_duplicates(originals, copies) if i == j}
        print(f"  recall {100 * len(own) / len(originals):5.1f} %  {name}", flush=True)


def as_pixels(images: list[Image.Image]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(image.resize(SIZE, reducing_gap=3.0))) for image in images])[:, None]


def jpeg(image: Image.Image, rng: Draw) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(40, 91)))
    return Image.open(stream).convert("L")


def rescaled(image: Image.Image, rng: Draw) -> Image.Image:
    side = max(int(image.width * rng.uniform(0.5, 2)), 8)
    return image.resize((side, side), Image.Resampling.BICUBIC)


def cropped(share: float) -> Callable[[Image.Image, Draw], Image.Image]:
    """Keep a window anywhere whose sides are so much shorter."""

    def change(image: Image.Image, rng: Draw) -> Image.Image:
        size = np.array(image.size)
        x, y = rng.uniform(0, share, 2) * size
        width, height = (1 - share) * size
        return image.resize(image.size, Image.Resampling.BICUBIC, (x, y, x + width, y + height))

    return change


def shifted(image: Image.Image, rng: Draw) -> Image.Image:
    x, y = rng.uniform(-0.02, 0.02, 2) * image.width
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BICUBIC)


def turned(image: Image.Image, rng: Draw) -> Image.Image:
    return image.rotate(rng.uniform(-3, 3), Image.Resampling.BICUBIC)


def brightness_and_contrast(image: Image.Image, rng: Draw) -> Image.Image:
    slope, shift = rng.uniform(0.8, 1.25), rng.uniform(-20, 20)
    return image.point([round(min(max(slope * (value - 128) + 128 + shift, 0), 255)) for value in range(256)])


def gamma(image: Image.Image, rng: Draw) -> Image.Image:
    power = math.exp(rng.uniform(math.log(0.7), math.log(1.4)))
    return image.point([round(255 * (value / 255) ** power) for value in range(256)])


def noise(image: Image.Image, rng: Draw) -> Image.Image:
    values = np.asarray(image) + rng.normal(0, rng.uniform(2, 8), np.asarray(image).shape)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[Image.Image, Draw], Image.Image]] = {
    "the same": lambda image, rng: image,
    "JPEG of quality 40 to 90": jpeg,
    "rescaled to .5 to 2 of its size": rescaled,
    "cropped by 5 %": cropped(0.05),
    "cropped by 2 %": cropped(0.02),
    "contrast .8 to 1.25, brightness -20 to 20": brightness_and_contrast,
    "gamma .7 to 1.4": gamma,
    "noise of 2 to 8": noise,
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "inverted": lambda image, rng: ImageOps.invert(image),
    "contrast, gamma, JPEG and mirrored": lambda image, rng: ImageOps.mirror(
        jpeg(gamma(brightness_and_contrast(image, rng), rng), rng)
    ),
    "not aimed at: cropped by 8 %": cropped(0.08),
    "not aimed at: shifted by 2 % at most": shifted,
    "not aimed at: turned by 3 degrees at most": turned,
}


if __name__ == "__main__":
    main()
