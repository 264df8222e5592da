"""The one error that a user can cause, and how a command shows it: one line, no stack trace."""

from __future__ import annotations

__all__ = ["SaganError"]


class SaganError(ValueError):
    """Bad input: one sentence that names the value or file, and the mend."""
