"""The folders of the bundles, and copies of them."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from monai_sagan.errors import SaganError
from monai_sagan.output_folder import new_folder

__all__ = ["bundle_names", "bundle_path", "copy_bundle"]

NEAR = 0.65  # of difflib's ratio: two swapped letters of three are near, "budgt" and "audit" are not


def bundle_names() -> list[str]:
    """The names of the bundles that the package includes, sorted.

    >>> "phantom" in bundle_names()
    True
    """
    return sorted(folder.parent.name for folder in _bundles_folder().glob("*/metadata.json"))


def bundle_path(name: str) -> str:
    """The folder of a bundle: inside an installed package, or at the top level of a checkout.

    >>> Path(bundle_path("phantom"), "train.json").is_file()
    True

    Raises:
        SaganError: for an unknown bundle, listing the known ones.
    """
    names = bundle_names()
    if name not in names:
        closest = nearest(name, names)
        hint = f"the nearest is {closest!r} of" if closest else "there are"
        raise SaganError(f"no bundle {name!r}; {hint}: {', '.join(names)}")
    return str(_bundles_folder() / name)


def copy_bundle(name: str, directory: str | os.PathLike[str]) -> Path:
    """Copy a bundle's files into a folder that is new or empty, to change them; return that folder.

    >>> (copy_bundle("phantom", "mine") / "train.json").is_file()
    True

    Raises:
        SaganError: for an unknown bundle, or a folder that is not empty or cannot be written.
    """
    source = bundle_path(name)
    with new_folder(directory) as folder:
        copy_files(source, folder)
    return Path(directory).resolve()


def copy_files(source: str | os.PathLike[str], folder: Path) -> None:
    """Copy the files of ``source`` into ``folder``, writable even if an installed package is not."""
    shutil.copytree(source, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)


def _bundles_folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "bundles", package.parent / "bundles"):
        if folder.is_dir():
            return folder
    raise SaganError("this installation of monai-sagan has no bundles; install it again")


def nearest(word: str, choices: Collection[str]) -> str:
    """The one of ``choices`` whose spelling is nearest to ``word``; empty if none is near."""
    written = {choice.lower(): choice for choice in choices}
    return written.get(next(iter(difflib.get_close_matches(word.lower(), written, n=1, cutoff=NEAR)), ""), "")
