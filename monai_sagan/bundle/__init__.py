"""Bundles: their folders, copies of them, and the components of their configs."""

from monai_sagan.bundle.command_line import check_command_line as check_command_line
from monai_sagan.bundle.config import bundle_folder as bundle_folder
from monai_sagan.bundle.config import models_in as models_in
from monai_sagan.bundle.config import path_beside as path_beside
from monai_sagan.bundle.config import path_in as path_in
from monai_sagan.bundle.config import settings_of as settings_of
from monai_sagan.bundle.config import shared_by_a_run as shared_by_a_run
from monai_sagan.bundle.config import value_of as value_of
from monai_sagan.bundle.folders import bundle_names, bundle_path, copy_bundle
from monai_sagan.bundle.overrides import find_overrides as find_overrides
from monai_sagan.errors import show_errors_in_one_line as show_errors_in_one_line

__all__ = ["bundle_names", "bundle_path", "copy_bundle"]
