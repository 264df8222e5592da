"""What a bundle's config says by components, so that it needs no ``$`` expression: where it lies, paths, a value."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_sagan.settings import Settings

__all__ = ["PACKED_MODEL", "bundle_folder", "models_in", "path_in", "settings_of", "value_of"]

PACKED_MODEL = "artifact"  # the folder of the weights in a packed bundle's models/


def bundle_folder() -> str:
    """The folder of the bundle whose config is being read, wherever it was copied to; else the current folder.

    MONAI does not tell a config where it lies, but the workflow or verb of ``monai.bundle`` that reads it knows; the
    current folder is the convention of MONAI's model zoo.
    """
    for folder in _folders_being_read():
        return str((folder.parent if folder.name == "configs" else folder).resolve())
    return str(Path.cwd())


def _folders_being_read() -> Iterator[Path]:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("monai.bundle."):
            known = frame.f_locals
            attributes = getattr(known.get("self"), "__dict__", {})
            if "config_root_path" in attributes:  # a ConfigWorkflow
                yield Path(attributes["config_root_path"])
            elif files := known.get("config_file_"):  # a verb such as ckpt_export
                yield Path(files if isinstance(files, str) else files[0]).parent
        frame = frame.f_back


def path_in(folder: str, name: str) -> str:
    """The path of what is called ``name`` in ``folder``."""
    return str(Path(folder) / name)


def value_of(component: Any, name: str) -> Any:
    """The attribute ``name`` of a ``component`` of the config, such as one field of resolved settings."""
    return getattr(component, name)


def models_in(folder: str) -> dict[str, Path]:
    """The models in ``folder`` by their names: a run's, see `run_models`, or a packed bundle's one model."""
    from monai_sagan.engines.trained import run_models

    packed = Path(folder) / PACKED_MODEL
    return {"aucp": packed} if packed.is_dir() else run_models(folder)


def settings_of(models: Mapping[str, Path]) -> Settings:
    """The settings of the run that made the first of ``models``, see `models_in`.

    Raises:
        SaganError: naming the model's file when it is missing or broken.
    """
    from monai_sagan.engines.trained import read_settings

    return read_settings(next(iter(models.values())))
