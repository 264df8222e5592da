"""Decode and resize any dataset once, into the Med-AD layout."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_sagan import run_files
from monai_sagan.data.datalist import Datalist, Item
from monai_sagan.data.datasets.med_ad import ITEM_FILE, LIST_FILE
from monai_sagan.data.formats.decode import check_min_foreground, split_fragment
from monai_sagan.data.formats.tasks import DecodeTask, LeftOut, Result, Unreadable, group_by_file, run_tasks, save_png
from monai_sagan.data.unreadable import check_unreadable, write_skipped
from monai_sagan.errors import SaganError
from monai_sagan.files import shorten_name, write_text
from monai_sagan.output_folder import hold_folder

__all__ = ["prepare"]

logger = logging.getLogger(__name__)

How = tuple[int, str, float]  # size, preparation, least foreground
VERSION = 2  # raise it when the same files would be written as other pixels
KEPT = ("patient", "view", "sex", "age", "site")  # of an item or its file, in items.json


def prepare(
    datalist: Datalist,
    output_dir: str | Path,
    image_size: int = 512,
    preparation: str = "display",
    max_unreadable: float = 0.01,
    jobs: int | None = None,
    min_foreground: float = 0.0,
) -> Path:
    """Write ``images/*.png``, ``data.json`` and ``items.json``: the Med-AD layout, which every bundle reads.

    Images are resized to a square by Pillow's antialiased bilinear filter, grey or in color as they are, with their
    boxes and masks. The same command resumes an interrupted one, and repeats images that are gone or whose file has
    changed. Unreadable images are listed in ``skipped.csv``.

    >>> from PIL import Image
    >>> Image.new("L", (3, 2)).save("a.png")
    >>> folder = prepare({"normal": [{"image": "a.png", "label": 0}], "unlabeled": [], "test": []}, "set", 16, jobs=1)
    >>> sorted(path.name for path in folder.iterdir())
    ['data.json', 'images', 'items.json', 'prepared.json', 'prepared.jsonl', 'skipped.csv']

    Args:
        datalist: of any dataset reader.
        output_dir: a folder that is new, empty, or was begun by the same call.
        image_size: side of the written images in pixels; the published sets have 512.
        preparation: of DICOM: ``"display"``, or ``"med_ad"`` as the published sets were made, see
            `monai_sagan.data.formats.dicom`.
        max_unreadable: share of unreadable images, 0 to 1, above which no ``data.json`` is written.
        jobs: processes at a time; None takes one for each core.
        min_foreground: images with a smaller share of pixels above their background, 0 to 1, are left out, and
            listed in
            ``skipped.csv``, too.

    Returns:
        ``output_dir``.

    Raises:
        SaganError: when the folder holds anything else, or too many images are unreadable.
    """
    if image_size < 1:
        raise SaganError(f"image_size is {image_size}; it is a number of pixels, 1 or more")
    check_unreadable({}, 0, max_unreadable)
    check_min_foreground(min_foreground)
    folder = Path(output_dir).resolve()
    items = {item["image"]: item for part in datalist.values() for item in part}
    names = _names(list(items))
    how = (image_size, preparation, min_foreground)
    recipe = {"version": VERSION, "image_size": image_size, "preparation": preparation, "images": names}
    recipe |= {"min_foreground": min_foreground} if min_foreground else {}
    try:
        with hold_folder(folder, "prepared dataset"):
            _begin(folder, recipe)
            done = _prepare_all(folder, items, names, how, jobs)
            _finish(folder, datalist, names, done, image_size, max_unreadable)
    except OSError as error:
        raise SaganError(
            f"cannot write to {folder} ({error.strerror or error}); make room or name a new folder"
        ) from None
    return folder


def _prepare_all(
    folder: Path, items: Mapping[str, Item], names: Mapping[str, str], how: How, jobs: int | None
) -> dict[str, dict[str, Any]]:
    """The journal's entry of each image: its description, why it is left out, or the error."""
    journal = folder / run_files.PREPARED_JOURNAL
    sources = {image: _source(image) for image in items}
    there = set(os.listdir(folder / "images"))
    done = {
        image: entry
        for entry in _entries(journal)
        if (image := entry["image"]) in sources
        and entry.get("source") == sources[image]
        and ("left_out" in entry or names[image] in there)
    }
    tasks = [
        _task(group, folder, names, how) for group in group_by_file([image for image in items if image not in done])
    ]
    bar = tqdm(total=len(items), initial=len(done), desc="preparing", unit="image", disable=None)
    with bar, journal.open("a", encoding="utf-8", errors="backslashreplace") as file:
        for results in run_tasks(tasks, jobs):
            for result in results:
                entry = {"image": result.image, "source": sources[result.image]} | _found(folder, result)
                file.write(json.dumps(entry) + "\n")
                done[result.image] = entry
                bar.update()
            file.flush()
    return {image: done[image] for image in items}


def _task(images: list[str], folder: Path, names: Mapping[str, str], how: How) -> DecodeTask:
    side, preparation, min_foreground = how
    targets = {image: str(folder / "images" / names[image]) for image in images}
    return DecodeTask(images, preparation, min_foreground, targets=targets, target_side=side)


def _found(folder: Path, result: Result) -> dict[str, Any]:
    """The journal's entry for a result."""
    if isinstance(result, Unreadable):
        return {"error": result.reason}
    if isinstance(result, LeftOut):
        return {"left_out": result.reason}
    if result.not_written:
        reason = result.not_written
        raise SaganError(f"cannot write to {folder} ({reason}); make room and give the same command again")
    return result.description


def _source(image: str) -> list[int]:
    """Fingerprint of a source file (size, mtime); empty if it is missing."""
    try:
        stat = os.stat(split_fragment(image)[0])
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _names(images: Sequence[str]) -> dict[str, str]:
    """A file name for each image: its stem, with as many of its folders as make it unique."""
    taken: set[str] = set()
    names: dict[str, str] = {}
    for image in images:
        file, fragment = split_fragment(image)
        *folders, last = Path(file).parts
        name = last.split(".")[0] + (f"_{fragment}" if fragment else "")
        while (unique := shorten_name(re.sub(r"[^\w.-]", "_", name))).lower() in taken and folders:
            name = f"{folders.pop()}-{name}"
        if unique.lower() in taken:
            unique = f"{unique}-{len(names)}"
        taken.add(unique.lower())
        names[image] = f"{unique}.png"
    return names


def _begin(folder: Path, recipe: dict[str, Any]) -> None:
    """Record what a new folder is made of, or check that it was begun so; remove unfinished files."""
    note = folder / run_files.PREPARED
    if note.is_file():
        before = _read_note(note)
        if before.get("version") != VERSION:
            raise SaganError(f"{folder} was begun by a version that reads some files differently; name a new folder")
        if before != recipe:
            raise SaganError(f"{folder} was begun from other images or with other options; name a new folder")
    elif not _only_begun(folder):
        raise SaganError(f"{folder} is not empty; name a new folder")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for unfinished in (folder / "images").glob(".*"):
        unfinished.unlink()
    write_text(note, json.dumps(recipe))


def _read_note(note: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise SaganError(f"{note} is damaged, so its folder cannot be resumed; remove the folder") from None


def _only_begun(folder: Path) -> bool:
    """Whether a folder holds no more than a call leaves that was killed before it wrote `run_files.PREPARED`."""
    begun = re.compile(rf"images|\.lock|\.{re.escape(run_files.PREPARED)}\..*")
    names = os.listdir(folder)
    return all(map(begun.fullmatch, names)) and ("images" not in names or not os.listdir(folder / "images"))


def _entries(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of an earlier call; an unfinished line is cut off, a damaged one skipped."""
    if not journal.is_file():
        return
    text = journal.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    write_text(journal, text + "\n" if text else "")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "image" in entry and "error" not in entry:  # what failed is tried again
            yield entry


def _finish(
    folder: Path,
    datalist: Datalist,
    names: dict[str, str],
    entries: dict[str, dict[str, Any]],
    image_size: int,
    max_unreadable: float,
) -> None:
    unreadable, empty = (
        {image: entry[why] for image, entry in entries.items() if why in entry} for why in ("error", "left_out")
    )
    skipped = unreadable | empty
    check_unreadable(unreadable, len(entries) - len(empty), max_unreadable)
    good = {name: [item for item in part if item["image"] not in skipped] for name, part in datalist.items()}
    items = {item["image"]: item for part in good.values() for item in part}
    bad_masks: dict[str, str] = {}
    notes = {names[i]: _note(folder, item, entries[i], names[i], image_size, bad_masks) for i, item in items.items()}
    write_skipped(folder / run_files.SKIPPED, unreadable, empty | bad_masks)
    write_text(folder / ITEM_FILE, json.dumps(notes, indent=1) + "\n")
    write_text(folder / LIST_FILE, json.dumps(_lists(good, names), indent=1) + "\n")
    logger.info(f"prepared {len(items)} images, skipped {len(skipped)}; they are in {folder}")
    if skipped or bad_masks:
        parts = (("unreadable images", unreadable), ("images with too little foreground", empty), ("masks", bad_masks))
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in parts if found)
        logger.warning(f"skipped {counts}: {folder / run_files.SKIPPED} lists them")


def _lists(datalist: Datalist, names: Mapping[str, str]) -> dict[str, Any]:
    """The content of ``data.json``."""

    def listed(split: str, *labels: int | None) -> list[str]:
        return [names[item["image"]] for item in datalist[split] if item["label"] in labels]

    unknown = listed("test", None)
    known = all(item["label"] is not None for item in datalist["unlabeled"])
    kinds = {str(label): listed("unlabeled", label) for label in (0, 1)}
    return {
        "train": {"0": listed("normal", 0), "unlabeled": kinds if known else listed("unlabeled", 0, 1, None)},
        "test": {str(label): listed("test", label) for label in (0, 1)} | ({"unlabeled": unknown} if unknown else {}),
    }


def _note(
    folder: Path, item: Item, entry: dict[str, Any], name: str, image_size: int, bad_masks: dict[str, str]
) -> dict[str, Any]:
    """The entry of an image in items.json; boxes in the pixels of the written image."""
    note = {key: item.get(key, entry.get(key)) for key in KEPT}
    note = {key: value for key, value in note.items() if value is not None}
    if "boxes" in item:
        wide, high = image_size / entry["width"], image_size / entry["height"]
        scaled = [[x * wide, y * high, w * wide, h * high] for x, y, w, h in item["boxes"]]
        note["boxes"] = [[round(value, 2) for value in box] for box in scaled]
    if "mask" in item:
        try:
            note["mask"] = _write_mask(folder, item, entry, name, image_size)
        except SaganError as error:
            bad_masks[item["mask"]] = str(error)
    return note


def _write_mask(folder: Path, item: Item, entry: dict[str, Any], name: str, image_size: int) -> str:
    from PIL import Image

    from monai_sagan.data.formats.masks import read_mask

    target = folder / "masks" / name
    target.parent.mkdir(exist_ok=True)
    present = Image.fromarray(read_mask(item, (entry["width"], entry["height"])).astype("uint8") * 255)
    save_png(present.resize((image_size, image_size), Image.Resampling.NEAREST), target)
    return f"masks/{name}"
