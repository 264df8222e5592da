"""The layouts of datasets: which one a folder is in, and its reader."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai_sagan.data.datasets.folder import almost_folder, find_folder, list_images, read_folder, read_images
from monai_sagan.data.datasets.image_table import find_table, read_table
from monai_sagan.data.datasets.items import Datalist, Reading
from monai_sagan.data.datasets.lag import find_lag, read_lag
from monai_sagan.data.datasets.med_ad import find_med_ad, read_med_ad
from monai_sagan.data.datasets.rsna import almost_rsna, find_rsna, read_rsna
from monai_sagan.data.datasets.vindr_cxr import almost_vindr_cxr, find_vindr_cxr, read_vindr_cxr
from monai_sagan.errors import SaganError

__all__ = ["read_datalist"]


def _nothing(folder: Path) -> str | None:
    """Without one of its characteristic parts, a folder has nothing of this layout."""
    return None


class Layout(NamedTuple):
    """How a layout is recognized and read.

    Args:
        find: returns the part of a folder by which it is recognized, or None.
        read: the reader.
        looks: its parts, in one line.
        almost: returns a part that would make it this layout if another one were not missing, or None; the reader then
            names the missing part.
    """

    find: Callable[[Path], str | None]
    read: Callable[..., Reading]
    looks: str
    almost: Callable[[Path], str | None] = _nothing


class Dataset(NamedTuple):
    """A dataset as it was read.

    >>> Dataset("folder", "normal/ and unlabeled/", {"normal": []}, {}, {}).layout
    'folder'

    Args:
        layout: its name.
        evidence: the part of the folder by which it was recognized.
        datalist: the items of each split.
        left_out: the number of images that were left out, by the reason.
        notes: further remarks, see `Reading`.
    """

    layout: str
    evidence: str
    datalist: Datalist
    left_out: Mapping[str, int]
    notes: Mapping[str, str]


# Searched in this order: an explicit list or table comes first.
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
    """The name of the layout of ``dataset_dir``, and the part by which it was recognized.

    Raises:
        SaganError: when it is in none; it says what each looks like, and which folder inside is in one.
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

    >>> for name in ("normal", "unlabeled"):
    ...     Path(name).mkdir()
    ...     Path(name, "1.png").touch()
    >>> dataset = read_dataset(".")
    >>> dataset.layout, dataset.datalist["normal"]
    ('folder', [{'image': 'normal/1.png', 'label': 0}])

    Args:
        dataset_dir: the folder, or a table.
        layout: one of `LAYOUTS`; None finds it.
        any_images: read images in no layout as one list, see `read_images`, to look at them.
        options: of the layout's reader.

    Raises:
        SaganError: of `find_layout` and of the reader, or naming an option that the reader does not have.
    """
    _check_names(() if layout is None else (layout,))
    if any_images and layout is None and _has_only_images(Path(dataset_dir)):
        return _read("none", "images that neither folders nor a table sort", read_images, dataset_dir, options)
    name, evidence = find_layout(dataset_dir) if layout is None else (layout, "the layout was given")
    return _read(name, evidence, LAYOUTS[name].read, dataset_dir, options)


def read_datalist(dataset_dir: str | Path, layouts: Sequence[str], **options: object) -> Datalist:
    """Read a folder in the first of some ``layouts`` that it is in: the ``datalist`` of a bundle's config.

    >>> for name in ("normal", "unlabeled"):
    ...     Path("mine", name).mkdir(parents=True)
    ...     Path("mine", name, "1.png").touch()
    >>> {name: len(items) for name, items in read_datalist("mine", ["med_ad", "folder"]).items()}
    {'normal': 1, 'unlabeled': 1, 'test': 0}

    Args:
        dataset_dir: the folder, or a table.
        layouts: names in `LAYOUTS`; where the folder is in none of them, the last one's reader says what is missing.
        options: of the readers; one that the reader of the found layout does not have keeps its default.

    Raises:
        SaganError: of the reader, or naming an option that the reader of the found layout does not have.
    """
    _check_names(layouts)
    folder = Path(dataset_dir)
    name = next((name for name in layouts if LAYOUTS[name].find(folder)), layouts[-1])
    defaults = {option: value for other in layouts for option, value in _options(LAYOUTS[other].read).items()}
    own = _options(LAYOUTS[name].read)
    given = {
        option: value for option, value in options.items() if option in own or not _same(value, defaults.get(option))
    }
    return _read(name, LAYOUTS[name].find(folder), LAYOUTS[name].read, dataset_dir, given).datalist


def _check_names(layouts: Sequence[str]) -> None:
    for name in layouts:
        if name not in LAYOUTS:
            raise SaganError(f"layout is {name!r}; it is one of {', '.join(LAYOUTS)}")


def _same(value: object, default: object) -> bool:
    """Whether a config's or a command line's value is the default."""
    return (
        value == default
        or (isinstance(value, list) and tuple(value) == default)
        or (isinstance(default, bool) and str(value).lower() == str(default).lower())
    )


def _read(
    name: str,
    evidence: str | None,
    read: Callable[..., Reading],
    dataset_dir: str | Path,
    options: Mapping[str, object],
) -> Dataset:
    known = _options(read)
    for option in options:
        if option not in known:
            because = f" ({evidence})" if evidence else ""
            raise SaganError(
                f"{option} is not an option of the layout {name} of {dataset_dir}{because}; its options: "
                f"{', '.join(known) or 'none'}"
            )
    return Dataset(name, evidence or "the layout was given", *read(dataset_dir, **options))


def _has_only_images(folder: Path) -> bool:
    known = _found(folder) or _inside(folder)
    return not known and any(names for _, names in list_images(folder))


def _inside(folder: Path) -> tuple[Path, str] | None:
    """The first folder in this one that is in a layout, and which."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return next(((path, found[0]) for path in inner if (found := _found(path))), None)


def option_names() -> set[str]:
    """The options of all layouts' readers."""
    return {name for layout in LAYOUTS.values() for name in _options(layout.read)}


def _options(read: Callable[..., Reading]) -> dict[str, Any]:
    """A reader's options and their defaults."""
    _, *options = inspect.signature(read).parameters.values()
    return {option.name: option.default for option in options}


def _found(folder: Path) -> tuple[str, str] | None:
    for look in ("find", "almost"):
        for name, layout in LAYOUTS.items():
            if evidence := getattr(layout, look)(folder):
                return name, evidence
    return None
