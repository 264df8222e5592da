"""The config that is being read, found on MONAI's own stack: components do not get it passed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__: list[str] = []


def folders_being_read() -> Iterator[Path]:
    """Yield the folders of the configs whose components are being made, the innermost first."""
    for frame in _frames_of_monai():
        known = frame.f_locals
        attributes = getattr(known.get("self"), "__dict__", {})
        if "config_root_path" in attributes:  # a ConfigWorkflow
            yield Path(attributes["config_root_path"])
        elif files := known.get("config_file_"):  # a verb such as ckpt_export
            yield Path(files if isinstance(files, str) else files[0]).parent


def parser_being_read() -> ConfigParser | None:
    """The parser whose component is being made, with all files and overrides merged; None outside of a config."""
    for frame in _frames_of_monai():
        if frame.f_globals["__name__"] == "monai.bundle.config_parser" and hasattr(
            frame.f_locals.get("self"), "config"
        ):
            parser: ConfigParser = frame.f_locals["self"]
            return parser
    return None


def _frames_of_monai() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("monai.bundle."):
            yield frame
        frame = frame.f_back
