"""Read a safetensors artifact like a model file, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_sagan.data.training_range import IMAGE, training_range_from_json
from monai_sagan.errors import SaganError
from monai_sagan.models.facts import FORMATS, check_files, read_facts
from monai_sagan.packages import pip_install

SUFFIX = ".safetensors"


def is_artifact(path: str | Path) -> bool:
    """Whether a path is a folder or a safetensors file, as opposed to a run's model file."""
    return Path(path).is_dir() or Path(path).name.endswith(SUFFIX)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read an artifact, given by its folder or ``model.safetensors``, as the content of a model file on the CPU.

    See `monai_sagan.models.trained.describe_trained`.

    Raises:
        SaganError: for files that are missing, changed, of a newer version or of another format.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    facts = read_facts(folder)
    if facts["format"] != "safetensors":
        raise SaganError(
            f"{folder} is an artifact of the format {facts['format']}; here one of the format safetensors is needed"
        )
    check_files(folder, facts)
    try:
        import torch
        from safetensors.torch import load_file

        model = load_file(folder / FORMATS["safetensors"])
        training_range = training_range_from_json(facts["typical"])
        known = facts["model"]
        return {
            "model": model,
            "settings": known["settings"],
            "valid_normal_scores": torch.tensor(known["valid_normal_scores"]),
            **{name: known[name] for name in ("scale", "pixel_threshold", "iteration")},
            **(
                {}
                if training_range is None
                else {"typical": training_range | {IMAGE: torch.tensor(training_range[IMAGE])}}
            ),
        }
    except ModuleNotFoundError as error:
        needed = error.name or "safetensors"
        raise SaganError(f"{folder} needs {needed}, which is not installed; {pip_install(needed)}") from None
    except Exception as error:  # safetensors raises its own types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SaganError(f"{folder} holds no weights ({reason}); export the model again") from None
