"""Bundles: where they lie, how to copy or pack one, and which keys a command line may override."""

from monai_sagan.bundle.command_line import check_command_line
from monai_sagan.bundle.config import (
    bundle_folder,
    models_in,
    path_beside,
    path_in,
    settings_of,
    shared_by_a_run,
    value_of,
)
from monai_sagan.bundle.folders import bundle_names, bundle_path, copy_bundle
from monai_sagan.bundle.overrides import find_overrides
from monai_sagan.errors import show_errors_in_one_line

__all__ = [
    "bundle_folder",
    "bundle_names",
    "bundle_path",
    "check_command_line",
    "copy_bundle",
    "find_overrides",
    "models_in",
    "path_beside",
    "path_in",
    "settings_of",
    "shared_by_a_run",
    "show_errors_in_one_line",
    "value_of",
]
