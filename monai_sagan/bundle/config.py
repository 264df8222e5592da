"""Components for configs without ``$`` expressions: the bundle's folder, paths, a value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from monai_sagan.bundle.being_read import folders_being_read
from monai_sagan.errors import SaganError

if TYPE_CHECKING:
    from monai_sagan.settings import Settings

__all__: list[str] = []

PACKED_MODEL = "artifact"  # the folder of the weights in a packed bundle's models/


def bundle_folder() -> str:
    """The folder of the bundle whose config is being read, wherever it was copied to; else the current folder.

    The workflow or verb of ``monai.bundle`` that reads a config knows its place; the current folder is the
    convention of MONAI's model zoo.
    """
    for folder in folders_being_read():
        return str((folder.parent if folder.name == "configs" else folder).resolve())
    return str(Path.cwd())


def path_in(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``."""
    return str(Path(folder) / name)


def path_beside(path: str, name: str) -> str:
    """The path of ``name`` beside the file or folder at ``path``."""
    return str(Path(path).parent / name)


def value_of(component: Any, name: str) -> Any:
    """The attribute ``name`` of a ``component`` of the config, or a mapping's value of that name.

    Where it may be None it needs an id of its own in the config: MONAI leaves out a component that turns out to be
    None.
    """
    return component[name] if isinstance(component, Mapping) else getattr(component, name)


def shared_by_a_run(
    settings: Settings, stages: Mapping[str, Any] = MappingProxyType({}), **values: Any
) -> dict[str, Any]:
    """The plain values that a resumed run must share: its settings, the plan of its stages, and ``values``."""
    from monai_sagan.settings import as_plain

    return {**as_plain(settings), **stages, **values}


def models_in(folder: str) -> dict[str, Path]:
    """The models in ``folder`` by their names: a run's, see `run_models`, or a packed bundle's one model.

    Raises:
        SaganError: without a model.
    """
    from monai_sagan.models.trained import run_models

    packed = Path(folder) / PACKED_MODEL
    models = {"aucp": packed} if packed.is_dir() else run_models(folder)
    if not models["aucp"].exists():
        raise SaganError(f"no trained model in {folder}; give the output_dir of a training run by --run_dir")
    return models


def settings_of(models: Mapping[str, Path]) -> Settings:
    """The settings of the run that made the first of ``models``, see `models_in`.

    Raises:
        SaganError: naming the model's file when it is missing or broken.
    """
    from monai_sagan.models.trained import read_settings

    return read_settings(next(iter(models.values())))
