"""Where the bundles lie, and how to copy one."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from monai_sagan.errors import SaganError
from monai_sagan.output_folder import new_folder

__all__ = ["bundle_names", "bundle_path", "copy_bundle", "copy_files", "nearest"]

NEAR = 0.65  # of difflib's ratio: two letters of three that changed places are near, "budgt" and "audit" are not


def bundle_names() -> list[str]:
    """The names of the bundles that come with the package, sorted."""
    return sorted(folder.parent.name for folder in _bundles_folder().glob("*/metadata.json"))


def bundle_path(name: str) -> str:
    """The folder of a bundle: inside an installed package, or at the top level of a checkout.

    Args:
        name: see `bundle_names`.

    Raises:
        SaganError: when there is no such bundle; it names those that there are.
    """
    names = bundle_names()
    if name not in names:
        closest = nearest(name, names)
        hint = f"the nearest is {closest!r} of" if closest else "there are"
        raise SaganError(f"no bundle {name!r}; {hint}: {', '.join(names)}")
    return str(_bundles_folder() / name)


def copy_bundle(name: str, directory: str | os.PathLike[str]) -> Path:
    """Copy a bundle's files, to be changed at will, into a folder that is new or empty, and return that folder.

    Args:
        name: see `bundle_names`.
        directory: the folder.

    Raises:
        SaganError: when there is no such bundle, or the folder has something in it or cannot be written.
    """
    source = bundle_path(name)
    with new_folder(directory) as folder:
        copy_files(source, folder)
    return Path(directory).resolve()


def copy_files(source: str | os.PathLike[str], folder: Path) -> None:
    """Copy the files of ``source`` into ``folder``; the copies may be changed, though an installed package may not."""
    shutil.copytree(source, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _bundles_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "bundles", package.parent / "bundles"):
        if folder.is_dir():
            return folder
    raise SaganError("this installation of monai-sagan has no bundles; install it again")


def nearest(word: str, choices: Collection[str]) -> str:
    """The one of ``choices`` that is spelled most like ``word``; empty where none is near."""
    written = {choice.lower(): choice for choice in choices}
    return written.get(next(iter(difflib.get_close_matches(word.lower(), written, n=1, cutoff=NEAR)), ""), "")
