"""Recall and false alarms of the search for near-duplicates.

    python benchmarks/near_duplicates.py [FOLDER ...] [--count 667] [--seed 0]

Each FOLDER holds images; without one, the phantoms of the bundle are drawn. A copy of each kind is made of the first
``--count`` images, at the size of the file, and everything is resized to 64 x 64, as for training. Recall is the share
of images whose own copy is found among all copies. Alarms are pairs of images of a folder that count as near-duplicates
although their pixels differ; they are listed, highest cosine first, for only a look tells whether they are copies or
images of one patient. Recall over all folders comes last.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from monai_sagan.data.datasets.phantom import PHANTOM_COUNTS, phantom_image
from monai_sagan.data.formats.decode import is_image_file, read_image
from monai_sagan.data.near_duplicates import Thumbnails, near_duplicates

Draw = np.random.Generator
SIZE = (64, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--count", type=int, default=667)
    parser.add_argument("--listed", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms")
    args = parser.parse_args()
    found: Counter[str] = Counter()
    total = 0
    for folder in args.folders or [None]:
        names, images = phantoms(args.seed) if folder is None else images_of(folder)
        alarms(names, images, args.listed)
        found += recall(images[: args.count])
        total += len(images[: args.count])
    print(f"recall of {total} copies of each kind")
    for name in KINDS:
        print(f"  {100 * found[name] / total:5.1f} %  {name}")


def phantoms(seed: int) -> tuple[list[str], list[Image.Image]]:
    """Those that a run of the bundle draws."""
    groups = np.repeat([*PHANTOM_COUNTS], [*PHANTOM_COUNTS.values()])
    kinds = [group.endswith("_abnormal") for group in np.random.default_rng(seed).permutation(groups)]
    return (
        [f"phantoms/{i:06d}" for i in range(len(kinds))],
        [Image.fromarray(phantom_image(seed, i, kind)[0]) for i, kind in enumerate(kinds)],
    )


def images_of(folder: Path) -> tuple[list[str], list[Image.Image]]:
    paths = sorted(path for path in folder.rglob("*") if is_image_file(path))
    return [str(path) for path in paths], [read_image(path).convert("L") for path in paths]


def alarms(names: list[str], images: list[Image.Image], listed: int) -> None:
    pixels = as_pixels(images)
    begun = time.monotonic(), time.process_time()
    thumbnails = Thumbnails(pixels)
    found = [(likeness, i, j) for i, j, likeness in near_duplicates(thumbnails, thumbnails) if i < j]
    wall, cpu = time.monotonic() - begun[0], time.process_time() - begun[1]
    found = sorted((row for row in found if not torch.equal(pixels[row[1]], pixels[row[2]])), reverse=True)
    print(
        f"{Path(names[0]).parent}: {len(images)} images, {math.comb(len(images), 2)} pairs, {len(found)} alarms, "
        f"{wall:.1f} s ({cpu:.1f} s of a core)"
    )
    for likeness, i, j in found[:listed]:
        print(f"    {likeness:.3f} {Path(names[i]).name} {Path(names[j]).name}")


def recall(images: list[Image.Image]) -> Counter[str]:
    """How many of the images' own copies are found, by the kind of copy."""
    originals = Thumbnails(as_pixels(images))
    found: Counter[str] = Counter()
    for name, change in KINDS.items():
        rng = np.random.default_rng(0)
        copies = as_pixels([change(image, rng) for image in images])
        found[name] = sum(i == j for i, j, _ in near_duplicates(originals, copies))
        print(f"  {100 * found[name] / len(images):5.1f} %  {name}", flush=True)
    return found


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


def quarters(image: Image.Image, rng: Draw) -> Image.Image:
    return image.rotate(90 * int(rng.integers(1, 4)), expand=True)


def with_exif(image: Image.Image, rng: Draw) -> Image.Image:
    """Pixels lie turned in the file, and a tag says so; read as the package reads files."""
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    tag = int(rng.choice([*turns]))
    exif = Image.Exif()
    exif[0x0112] = tag
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turned.jpg"
        image.transpose(turns[tag]).save(path, quality=90, exif=exif)
        return read_image(path).convert("L")


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
    "turned by a tag of EXIF": with_exif,
    "turned by 90, 180 or 270 degrees": quarters,
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
