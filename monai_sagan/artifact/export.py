"""Export of a trained model as an artifact, written completely or not at all."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path

import torch

from monai_sagan._version import __version__
from monai_sagan.artifact.formats import check_format, write_format
from monai_sagan.artifact.inputs import make_cases
from monai_sagan.artifact.opening import open_artifact
from monai_sagan.artifact.self_test import check_self_test, write_self_test
from monai_sagan.data.training_range import training_range_as_json
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.methods import Method, find_method
from monai_sagan.metrics import normal_threshold
from monai_sagan.models.facts import FACTS, FORMAT_VERSION, FORMATS, LICENSE, SELF_TEST, Facts, digest, seal
from monai_sagan.models.trained import Trained, load_trained, run_models
from monai_sagan.output_folder import new_folder
from monai_sagan.settings import as_plain

__all__ = ["export_artifact"]

SPECIFICITIES = (0.95, 0.9)
INTENDED_USE = (
    "Research on images of the kind that the model was trained on. Not a medical device: no diagnosis, no treatment "
    "and no triage may rest on it."
)
INPUTS = {
    "image": "int32 (batch, channels, height, width), any batch and size: pixels as a reader gives them, not scaled",
    "bits": "int64 scalar: 8 takes the values 0 to 255 as they are; 16 stretches each image from its least and "
    "greatest value to 0 and 255",
}
DESCRIPTIONS = {
    "image": "uint8 (batch, channels, h, w): what the network saw; an ONNX graph calls it image_seen",
    "restored": "float32 (batch, channels, h, w): the healthy version, -1 to 1",
    "anomaly_map": "float32 (batch, 1, h, w): {anomaly_map}; higher is more abnormal",
    "score": "float32 (batch,): higher is more abnormal",
    "p_value": "float32 (batch,): (1 + validation normals that score as high or higher) / (1 + validation normals)",
}


def export_artifact(
    run: str | Path,
    directory: str | Path,
    format: str = "safetensors",
    which: str = "aucp",
    name: str | None = None,
    license_file: str | Path | None = None,
) -> Path:
    """Write a trained model, with everything needed to use it, into its own folder, and return that folder.

    The complete self-test runs before the folder gets its name; after an error nothing is left.

    Args:
        run: the output folder of a training run, one of its model files, or an artifact of the format safetensors.
        directory: a folder that is new or empty.
        format: ``"safetensors"``, ``"torchscript"``, ``"onnx"`` or ``"torch_export"``.
        which: of a run's models: ``"aucp"``, chosen without labels, or ``"last"``.
        name: of the model, by default that of the run's folder.
        license_file: of the weights, whose terms may depend on the training data; by default Apache-2.0.

    >>> folder = export_artifact("run", "artifact")
    >>> sorted(path.name for path in folder.iterdir())
    ['LICENSE', 'artifact.json', 'model.safetensors', 'self_test.npz']
    """
    check_format(format)
    with new_folder(directory) as draft:
        trained = load_trained(_model_file(Path(run), which))
        license_path = Path(license_file or _own_license())
        if not license_path.is_file():
            raise SaganError(f"no file {license_path}; give the text of the license of the weights")
        facts = _describe(trained, format, name or _name(Path(run)), "Apache-2.0" if license_file is None else LICENSE)
        shutil.copyfile(license_path, draft / LICENSE)
        _write(trained, facts, draft)
    return Path(directory).absolute()


def _model_file(run: Path, which: str) -> Path:
    if not run.is_dir() or (run / FACTS).is_file():
        return run
    models = run_models(run, oracle_test=False)
    if which not in models:
        raise SaganError(f"which is {which!r}; use one of {', '.join(models)}")
    if not models[which].is_file():
        raise SaganError(
            f"{run} is not a run's folder: it has no {models[which].name}; give the output_dir of a training run"
        )
    return models[which]


def _name(run: Path) -> str:
    return (run if run.is_dir() else run.parent).resolve().name


def _describe(trained: Trained, format: str, name: str, license: str) -> Facts:
    settings, valid = trained.settings, trained.valid_normal_scores
    return {
        "format_version": FORMAT_VERSION,
        "format": format,
        "name": name,
        "monai_sagan_version": __version__,
        "created_by": {"monai_sagan": __version__, "torch": torch.__version__},
        "intended_use": INTENDED_USE,
        "license": license,
        "model": {
            "settings": as_plain(settings),
            "iteration": trained.iteration,
            "image_size": list(settings.image_size),
            "in_channels": settings.in_channels,
            "scale": trained.scale,
            "pixel_threshold": trained.pixel_threshold,
            "n_valid_normal": len(valid),
            "valid_normal_scores": valid.tolist(),
        },
        "operating_points": [
            {
                "specificity_wanted": wanted,
                "threshold": normal_threshold(valid.numpy(), wanted),
                "n_valid_normal": len(valid),
            }
            for wanted in SPECIFICITIES
        ],
        "typical": training_range_as_json(trained.training_range),
        "inputs": INPUTS,
        "outputs": _describe_outputs(find_method(settings.method)),
    }


def _describe_outputs(method: Method) -> dict[str, str]:
    how = {"anomaly_map": method.map_words}
    shown = {name: words.format(**how) for name, words in DESCRIPTIONS.items()}
    return shown if method.restores else {name: words for name, words in shown.items() if name != "restored"}


def _write(trained: Trained, facts: Facts, folder: Path) -> None:
    write_self_test(make_cases(trained), folder / SELF_TEST)
    write_format(facts["format"], trained, folder / FORMATS[facts["format"]])
    names = (FORMATS[facts["format"]], SELF_TEST, LICENSE)
    files = {name: digest(folder / name) for name in names}
    write_text(folder / FACTS, seal({**facts, "files": files}))
    check_self_test(open_artifact(folder, check=False).run, folder / SELF_TEST)


def _own_license() -> Path:
    """This package's license: in a checkout beside the package, in an installation among its metadata."""
    checkout = Path(__file__).resolve().parents[2] / LICENSE
    if checkout.is_file():
        return checkout
    return Path(str(distribution("monai-sagan").locate_file(f"monai_sagan-{__version__}.dist-info/licenses/{LICENSE}")))
