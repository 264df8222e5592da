"""Which of the layouts that the readers know a folder is in, and what is in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_sagan.data.datasets.folder import almost_folder, find_folder, list_images, read_folder, read_images
from monai_sagan.data.datasets.image_table import find_table, read_table
from monai_sagan.data.datasets.items import Datalist
from monai_sagan.data.datasets.lag import find_lag, read_lag
from monai_sagan.data.datasets.med_ad import find_med_ad, read_med_ad
from monai_sagan.data.datasets.rsna import almost_rsna, find_rsna, read_rsna
from monai_sagan.data.datasets.source_files import LeftOut, Notes
from monai_sagan.data.datasets.vindr_cxr import almost_vindr_cxr, find_vindr_cxr, read_vindr_cxr
from monai_sagan.errors import SaganError

__all__ = ["LAYOUTS", "Dataset", "Layout", "find_layout", "option_names", "read_dataset"]

SAID = ("dataset_dir", "left_out", "notes")  # arguments of readers that are not options


def _nothing(folder: Path) -> str | None:
    """Without one part that tells, a folder has nothing of this layout."""
    return None


@dataclass(frozen=True)
class Layout:
    """How a layout is recognized and read, and what it looks like.

    Args:
        find: returns what in a folder tells that it has this layout, or None.
        read: returns its datalist.
        looks: in one line.
        almost: returns what tells that it would be this layout if nothing were missing, or None; the reader says what.
    """

    find: Callable[[Path], str | None]
    read: Callable[..., Datalist]
    looks: str
    almost: Callable[[Path], str | None] = _nothing


@dataclass(frozen=True)
class Dataset:
    """What was found in a folder: the layout, what told it, the items, what was left out and why, and further notes.

    Args:
        layout: its name.
        evidence: what told it.
        datalist: the items of each split.
        left_out: how many images were left out, by the reason.
        notes: such as which columns of a table were read, by a word for it.
    """

    layout: str
    evidence: str
    datalist: Datalist
    left_out: LeftOut = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)


# In the order in which they are looked for: a list or table that says what belongs where comes first.
LAYOUTS = {
    "med_ad": Layout(find_med_ad, read_med_ad, "images/ and data.json"),
    "rsna": Layout(find_rsna, read_rsna, "stage_2_train_images/ and the two tables stage_2_*.csv", almost_rsna),
    "vindr_cxr": Layout(
        find_vindr_cxr, read_vindr_cxr, "train/ and train.csv, or train/ and annotations/", almost_vindr_cxr
    ),
    "lag": Layout(find_lag, read_lag, "non_glaucoma/ and suspicious_glaucoma/"),
    "table": Layout(find_table, read_table, "images.csv, or the table itself"),
    "folder": Layout(find_folder, read_folder, "normal/ and unlabeled/", almost_folder),
}


def find_layout(dataset_dir: str | Path) -> tuple[str, str]:
    """The name of the layout of ``dataset_dir``, and what told it.

    Raises:
        SaganError: when it is in none: it says what each looks like, and which folder inside is in one.
    """
    folder = Path(dataset_dir)
    if not folder.exists():
        raise SaganError(f"no folder {folder}; give the one that holds the dataset")
    if found := _found(folder):
        return found
    inner = _inside(folder)
    hint = f"; {inner[0]} is in the layout {inner[1]}, give that" if inner else ""
    looks = "; ".join(f"{name}: {layout.looks}" for name, layout in LAYOUTS.items())
    raise SaganError(f"{folder} is in no known layout ({looks}){hint}")


def read_dataset(
    dataset_dir: str | Path, layout: str | None = None, any_images: bool = False, **options: object
) -> Dataset:
    """Read a folder in whichever layout it is.

    Args:
        dataset_dir: the folder, or a table.
        layout: one of `LAYOUTS`; None finds out.
        any_images: read images in no layout as one list, see `read_images`, to look at them.
        options: of the layout's reader.

    Raises:
        SaganError: of `find_layout` and of the reader, or naming an option that the reader does not have.
    """
    if layout is not None and layout not in LAYOUTS:
        raise SaganError(f"layout is {layout!r}; it is one of {', '.join(LAYOUTS)}")
    read: Callable[..., Datalist] = read_images
    if any_images and layout is None and _has_only_images(Path(dataset_dir)):
        name, evidence = "none", "images that neither folders nor a table sort"
    else:
        name, evidence = find_layout(dataset_dir) if layout is None else (layout, "the layout was given")
        read = LAYOUTS[name].read
    known = _options_of(read)
    for option in options:
        if option not in known:
            raise SaganError(
                f"{option} is not an option of the layout {name}; its options: {', '.join(known) or 'none'}"
            )
    left_out: LeftOut = {}
    notes: Notes = {}
    said: dict[str, Any] = {"left_out": left_out} | (
        {"notes": notes} if "notes" in inspect.signature(read).parameters else {}
    )
    return Dataset(name, evidence, read(dataset_dir, **said, **options), left_out, notes)


def _has_only_images(folder: Path) -> bool:
    known = _found(folder) or _inside(folder)
    return not known and any(names for _, names in list_images(folder))


def _inside(folder: Path) -> tuple[Path, str] | None:
    """The first folder in this one that is in a layout, and which."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return next(((path, found[0]) for path in inner if (found := _found(path))), None)


def option_names() -> set[str]:
    """The options of all layouts' readers."""
    return {name for layout in LAYOUTS.values() for name in _options_of(layout.read)}


def _options_of(read: Callable[..., Datalist]) -> list[str]:
    return [option for option in inspect.signature(read).parameters if option not in SAID]


def _found(folder: Path) -> tuple[str, str] | None:
    for look in ("find", "almost"):
        for name, layout in LAYOUTS.items():
            if evidence := getattr(layout, look)(folder):
                return name, evidence
    return None
