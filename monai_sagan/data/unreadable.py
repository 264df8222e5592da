"""The readable images of a datalist, with what their files say; the others are skipped and listed."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from monai_sagan import run_files
from monai_sagan.data.cache import ImageCache
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.formats.decode import split_fragment
from monai_sagan.errors import SaganError
from monai_sagan.records import record

logger = logging.getLogger(__name__)

FROM_FILE = ("patient", "view", "sex", "age")  # added to an item from its file's header


def keep_readable(
    datalist: Datalist, images: ImageCache, output_dir: str | Path, max_unreadable: float = 0.01
) -> Datalist:
    """The datalist without unreadable images; each item gets what its file says.

    That is its ``size`` in pixels (width, height), a ``digest`` of its decoded pixels, and of a DICOM file the
    patient (as a hash), view, sex and age, where the dataset does not say them. Skipped images are logged, and
    recorded with the reason in ``skipped.csv``.

    >>> from PIL import Image
    >>> from monai_sagan.data.cache import HowToDecode, ImageCache
    >>> Image.new("L", (3, 2)).save("a.png")
    >>> datalist = {"normal": [{"image": "a.png", "label": 0}, {"image": "lost.png", "label": 0}]}
    >>> images = ImageCache(datalist, HowToDecode((2, 2)), "cache", jobs=1)
    >>> (item,) = keep_readable(datalist, images, "run", max_unreadable=0.5)["normal"]
    >>> item["size"]
    [3, 2]

    Args:
        datalist: lists of items.
        images: the cache that decoded them.
        output_dir: folder for ``skipped.csv``.
        max_unreadable: share of unreadable images, 0 to 1, above which the run ends.

    Raises:
        SaganError: when more images are unreadable, see `check_unreadable`; or when a box lies outside its image.
    """
    for reason in by_file(images.unreadable).values():
        logger.warning(f"skipped: {reason}")
    check_unreadable(images.unreadable, len(images.images) + len(images.unreadable), max_unreadable)
    path = Path(output_dir) / run_files.SKIPPED
    if images.left_out:
        reasons = Counter(reason.split(" ")[0] for reason in images.left_out.values())
        logger.info(f"left out: {len(images.left_out)} images ({', '.join(reasons)}), listed in {path}")
    described = {
        name: [_described(item, images) for item in items if item["image"] in images.images]
        for name, items in datalist.items()
    }
    write_skipped(path, images.unreadable, images.left_out)
    return described


def check_unreadable(unreadable: Mapping[str, str], total: int, max_unreadable: float) -> None:
    """Check that at most the share ``max_unreadable`` of ``total`` images is unreadable.

    Raises:
        SaganError: when there are more, naming the first; or when ``max_unreadable`` is not a share.
    """
    if not 0 <= max_unreadable <= 1:
        raise SaganError(f"max_unreadable is {max_unreadable}; it is a share from 0 to 1, for example 0.01")
    if len(unreadable) > max_unreadable * total:
        raise SaganError(
            f"{len(unreadable)} of {total} images are unreadable, more than max_unreadable {max_unreadable} allows; "
            f"monai-sagan data DIR --check lists them all, the first: {next(iter(unreadable.values()))}"
        )


def _described(item: Item, images: ImageCache) -> Item:
    image = images.images[item["image"]]
    for x, y, width, height in item.get("boxes", []):
        if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
            raise SaganError(
                f"{item['image']} has a box [{x:g}, {y:g}, {width:g}, {height:g}] outside its {image['width']} x "
                f"{image['height']} pixels; fix the box in the dataset's table"
            )
    known = {key: image[key] for key in FROM_FILE if image.get(key) is not None}
    return known | item | {"size": [image["width"], image["height"]], "digest": image["digest"]}


def by_file(unreadable: Mapping[str, str]) -> dict[str, str]:
    """The reasons by image; once by file where several images of one file share a reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for image, reason in unreadable.items():
        file = split_fragment(image)[0]
        groups.setdefault((file, reason.replace(image, file)), []).append(image)
    return {
        name: reason
        for (file, of_file), images in groups.items()
        for name, reason in [(file, of_file) if len(images) > 1 else (images[0], unreadable[images[0]])]
    }


def write_skipped(
    path: Path,
    unreadable: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
    status: Mapping[str, str] | None = None,
) -> None:
    """Record ``skipped.csv``: a row with the reason for each image, or for a file that is unreadable as such.

    ``status`` is a third column, by image and by file; None leaves it out.
    """
    skipped = {**by_file(unreadable), **(left_out or {})}

    def write(unfinished: Path) -> None:
        with unfinished.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["image", "reason"] if status is None else ["image", "reason", "status"])
            rows.writerows([*item, *([] if status is None else [status[item[0]]])] for item in sorted(skipped.items()))

    record(path, write)
