"""The versions of the software that computed a run."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """The versions of Python and packages, and of a checkout the commit."""
    names = ("monai-sagan", "torch", "monai", "pytorch-ignite", "numpy", "pillow", "scikit-learn")
    found = {"python": platform.python_version()} | {name: version(name) for name in names}
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def _commit() -> str | None:
    """The commit of this checkout, marked if dirty; None for an installed package."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(package.parent), "describe", "--always", "--abbrev=12", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
