"""The registry of methods, by their names on the command line."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from monai_sagan.errors import SaganError
from monai_sagan.methods.method import Method
from monai_sagan.options import resolve, typed
from monai_sagan.settings import Settings

__all__ = ["find_method", "resolve_settings"]

METHODS = {
    "sagan": "monai_sagan.methods.sagan.Sagan",
    "cutpaste": "monai_sagan.methods.cutpaste.CutPaste",
    "fpi": "monai_sagan.methods.fpi.ForeignPatchInterpolation",
    "pii": "monai_sagan.methods.pii.PoissonImageInterpolation",
    "nsa": "monai_sagan.methods.nsa.NaturalSyntheticAnomalies",
    "ddad": "monai_sagan.methods.ddad.Ddad",
    "amae": "monai_sagan.methods.amae.Amae",
    "brainomaly": "monai_sagan.methods.brainomaly.Brainomaly",
    "pu": "monai_sagan.methods.pu.Pu",
}


@cache
def find_method(name: str) -> Method:
    """Find a method by its name in `METHODS` or by the dotted path of its class, such as ``my_package.MyMethod``.

    >>> find_method("sagan").title
    'SAGAN'

    Raises:
        SaganError: for an unknown name, listing the known ones.
    """
    path = METHODS.get(name, name)
    module, _, kind = path.rpartition(".")
    if not module:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"the nearest is {near[0]}" if near else f"the methods are {', '.join(METHODS)}"
        raise SaganError(f"unknown method {name!r}; {hint}")
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise SaganError(f"the method {name!r} cannot be imported ({error}); give the dotted path of a class") from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise SaganError(f"{name!r} is not a method; give a class derived from monai_sagan.methods.Method")
    return found()


def describe_method(name: str) -> dict[str, Any]:
    """Describe a method for ``metrics.json``: name, title, and whether it learns from unlabeled images."""
    method = find_method(name)
    return {"name": name, "title": method.title, "unlabeled": "unlabeled" in method.streams}


def resolve_settings(preset: str = "recommended", method: str = "sagan", **values: Any) -> Any:
    """Settings of a method: those of a preset, overridden by each value that is not None.

    The word ``"none"`` sets an optional value to None. A run shorter than an epoch has one epoch per stage.

    Args:
        preset: of the method: ``"recommended"``, ``"paper"``, or a further one.
        method: its name or dotted path, see `find_method`.
        values: settings by their names; see the method's ``Options``.

    Raises:
        SaganError: for an unknown method, preset or setting, or a value of the wrong type or out of range.

    Example:
        >>> resolve_settings("paper", channels=8).batch_size
        64
    """
    chosen = find_method(method)
    if preset not in chosen.presets:
        raise SaganError(f"preset is {preset!r}; use one of {', '.join(chosen.presets)}")
    merged = {**chosen.presets[preset], **{name: value for name, value in values.items() if value is not None}}
    if "max_iterations" in merged:
        iterations = typed("max_iterations", merged["max_iterations"], int)
        if values.get("max_iterations") is not None and values.get("iterations_per_epoch") is None:
            merged["iterations_per_epoch"] = _epoch_length(iterations, chosen, chosen.presets[preset])
    settings = resolve(chosen.Options, {**merged, "method": method})
    if settings.max_iterations % settings.iterations_per_epoch:
        below = settings.epochs * settings.iterations_per_epoch
        fitting = " or ".join(str(n) for n in (below, below + settings.iterations_per_epoch) if n)
        raise SaganError(
            f"max_iterations {settings.max_iterations} is not a multiple of iterations_per_epoch "
            f"{settings.iterations_per_epoch}; use {fitting}"
        )
    chosen.check(settings)
    return settings


def _epoch_length(iterations: int, method: Method, preset: Mapping[str, Any]) -> int:
    """The preset's, or what divides a run that is too short for one such epoch in each stage."""
    usual: int = preset.get("iterations_per_epoch", method.Options.iterations_per_epoch)
    if iterations >= usual * method.stages_count:
        return usual
    return next((n for n in range(iterations // method.stages_count, 0, -1) if iterations % n == 0), 1)


def make_network(settings: Settings, checkpoint_images: int | None = None) -> nn.Module:
    """Build the untrained network of a run's method; for ``checkpoint_images`` see `SaganGenerator`.

    Raises:
        SaganError: for ``checkpoint_images`` where the method's network cannot recompute activations.
    """
    network = find_method(settings.method).network(settings)
    if checkpoint_images is not None:
        if not hasattr(network, "checkpoint_images"):
            raise SaganError(
                f"checkpoint_images is {checkpoint_images}; leave it out: {settings.method} has no such option"
            )
        if checkpoint_images < 1:
            raise SaganError(f"checkpoint_images is {checkpoint_images}; it counts images, at least 1, or is null")
        network.checkpoint_images = checkpoint_images  # type: ignore[assignment]
    return network
