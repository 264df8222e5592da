"""All methods, by their names on the command line."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from typing import Any

from torch import nn

from monai_sagan.errors import SaganError
from monai_sagan.methods.method import Method
from monai_sagan.options import resolve, typed
from monai_sagan.settings import Settings

__all__ = ["METHODS", "find_method", "make_network", "resolve_settings"]

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
    """The method of a name in `METHODS`, or of the dotted path of a class such as ``my_package.my_method.MyMethod``.

    Raises:
        SaganError: naming the methods where there is none of this name.
    """
    path = METHODS.get(name, name)
    module, _, kind = path.rpartition(".")
    if not module:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"the nearest is {near[0]}" if near else f"the methods are {', '.join(METHODS)}"
        raise SaganError(f"there is no method {name!r}; {hint}")
    try:
        found = getattr(importlib.import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise SaganError(f"the method {name!r} cannot be imported ({error}); give the dotted path of a class") from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise SaganError(f"{name!r} is not a method; give a class derived from monai_sagan.methods.Method")
    return found()


def describe_method(name: str) -> dict[str, Any]:
    """The entry of ``metrics.json``: ``name``, ``title``, and whether it learns from ``unlabeled`` images."""
    method = find_method(name)
    return {"name": name, "title": method.title, "unlabeled": "unlabeled" in method.streams}


def resolve_settings(preset: str = "recommended", method: str = "sagan", **values: Any) -> Any:
    """The settings of a method's ``preset``, with every value that is given and not None in place of the preset's.

    An option that may be None is given as ``"none"``. A run shorter than an epoch is one epoch for each stage.

    Args:
        preset: of the method: ``"recommended"``, ``"paper"``, or a further one.
        method: its name or dotted path, see `find_method`.
        values: settings by their names; see the method's ``Options``.

    Raises:
        SaganError: naming an unknown method or preset, or the value that is not of its type, range or choices.

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
        merged.setdefault("iterations_per_epoch", _epoch_length(iterations, chosen))
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


def _epoch_length(iterations: int, method: Method) -> int:
    """The default, or what divides a run that is too short for an epoch of it in each stage."""
    default: int = method.Options.iterations_per_epoch
    if iterations >= default * method.stages_count or method.stages_count == 1:
        return min(iterations, default)
    return next((n for n in range(iterations // method.stages_count, 0, -1) if iterations % n == 0), 1)


def make_network(settings: Settings, checkpoint_images: int | None = None) -> nn.Module:
    """The network of a run's method, untrained.

    Args:
        settings: of the run; they name the method.
        checkpoint_images: see `monai_sagan.networks.SaganGenerator`; None for networks that have no such option.

    Raises:
        SaganError: when the method's network cannot compute activations again.
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
