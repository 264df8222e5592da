"""``artifact.json``: the facts about an artifact, with hashes that detect any changed byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai_sagan.data.training_range import training_range_from_json
from monai_sagan.errors import SaganError

Facts = dict[str, Any]

FACTS, SELF_TEST, LICENSE = "artifact.json", "self_test.npz", "LICENSE"  # in the artifact's folder
FORMAT_VERSION = 1  # raise it when older versions of this package can no longer read new artifacts
FORMATS = {  # the model's file in each
    "safetensors": "model.safetensors",
    "torchscript": "model.ts",
    "onnx": "model.onnx",
    "torch_export": "model.pt2",
}


def seal(facts: Mapping[str, Any]) -> str:
    """The text of ``artifact.json``: the facts, and the SHA-256 of their canonical JSON under ``sha256``."""
    rest = {name: value for name, value in facts.items() if name != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return json.dumps({**rest, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}, indent=2) + "\n"


def read_facts(folder: Path) -> Facts:
    """Read and verify the facts of an artifact.

    Raises:
        SaganError: for a folder that is not an artifact or of another version, and for changed or incomplete facts.
    """
    path = folder / FACTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SaganError(
            f"{folder} is not an artifact ({FACTS}: {error.strerror}); give a folder that monai-sagan export wrote"
        ) from None
    try:
        facts = json.loads(data)
        version = facts["format_version"]
        if type(version) is int and version > FORMAT_VERSION:
            raise SaganError(
                f"{folder} is an artifact of format version {version}, this version of monai-sagan knows "
                f"{FORMAT_VERSION}; install a newer one"
            )
        if type(version) is int and version < FORMAT_VERSION:
            raise SaganError(
                f"{folder} is an artifact of format version {version}, which no monai-sagan writes; export the model "
                "again"
            )
        # Compares the text, too: the same values in another spelling were not written by `seal`.
        if seal(facts).encode() != data or version != FORMAT_VERSION or facts["format"] not in FORMATS:
            raise _changed(path)
        if not {FORMATS[facts["format"]], SELF_TEST, LICENSE} <= set(facts["files"]):
            raise SaganError(f"{path} has no SHA-256 of some of the files; export the model again")
        if broken := next(_broken(facts), None):
            raise SaganError(f"{path} has no usable {broken}; export the model again")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise error if isinstance(error, SaganError) else _changed(path) from None
    return dict(facts)


def _broken(facts: Facts) -> Iterator[str]:
    """Names of values that are missing or of the wrong type, which a hash cannot detect."""
    model = facts.get("model")
    settings = model.get("settings") if isinstance(model, dict) else None
    kinds: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("", facts, {"name": str, "monai_sagan_version": str, "license": str, "operating_points": list}),
        ("model.", model, {"iteration": int, "in_channels": int, "n_valid_normal": int}),
        ("model.", model, {"scale": (int, float), "pixel_threshold": (int, float), "valid_normal_scores": list}),
        ("model.settings.", settings, {"in_channels": int, "preparation": str, "min_foreground": (int, float)}),
    )
    for where, values, wanted in kinds:
        for name, kind in wanted.items():
            if not isinstance(values, dict) or not isinstance(values.get(name), kind):
                yield where + name
    for where, values in (("model.", model), ("model.settings.", settings)):
        if not isinstance(values, dict) or not _are(values.get("image_size"), int) or len(values["image_size"]) != 2:
            yield f"{where}image_size"
    if isinstance(model, dict) and not _are(model.get("valid_normal_scores"), (int, float)):
        yield "model.valid_normal_scores"
    for point in facts["operating_points"]:
        if not isinstance(point, dict) or not {"specificity_wanted", "threshold"} <= point.keys():
            yield "operating_points"
    try:
        training_range_from_json(facts["typical"])
    except (ValueError, KeyError, TypeError):
        yield "typical"


def _are(values: Any, kind: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def check_files(folder: Path, facts: Facts) -> None:
    """Compare every file of an artifact with its hash.

    Raises:
        SaganError: naming the missing or changed file.
    """
    for name, expected in facts["files"].items():
        try:
            found = digest(folder / name)
        except OSError as error:
            raise SaganError(f"{folder / name} cannot be read ({error.strerror}); export the model again") from None
        if found != expected:
            raise _changed(folder / name)


def digest(path: Path) -> str:
    """The SHA-256 of the file at ``path``, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _changed(path: Path) -> SaganError:
    return SaganError(f"{path} is not as it was exported: its SHA-256 differs; export the model again")
