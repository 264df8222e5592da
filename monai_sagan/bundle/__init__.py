"""Bundles: where they lie, how to copy or pack one, and which keys a command line may override."""

from monai_sagan.bundle.command_line import check_command_line
from monai_sagan.bundle.config import bundle_folder, models_in, path_in, settings_of, value_of
from monai_sagan.bundle.folders import bundle_names, bundle_path, copy_bundle
from monai_sagan.errors import show_errors_in_one_line

__all__ = [
    "bundle_folder",
    "bundle_names",
    "bundle_path",
    "check_command_line",
    "copy_bundle",
    "models_in",
    "path_in",
    "settings_of",
    "show_errors_in_one_line",
    "value_of",
]
