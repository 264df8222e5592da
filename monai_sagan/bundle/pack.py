"""A bundle in the layout that MONAI's own tools expect, with or without a trained model."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_sagan import run_files
from monai_sagan.bundle.config import PACKED_MODEL
from monai_sagan.bundle.folders import bundle_path
from monai_sagan.bundle.method_options import option_key
from monai_sagan.errors import SaganError
from monai_sagan.files import save_tensors, write_text
from monai_sagan.output_folder import new_folder

if TYPE_CHECKING:
    from monai_sagan.models.trained import Trained

__all__ = ["pack_bundle"]

OWN_FOLDER = {"_target_": "monai_sagan.bundle.bundle_folder"}
# Values of a run that others may repeat: no paths and no device.
SHARED = (
    *("mixed_images", "anomaly_ratio", "unlabeled_size", "valid_fraction", "max_unreadable", "strict", "seed", "amp"),
    *("third_class", "split_seed", "agreement", "official_test", "resplit", "slice_axis", "slice_range", "shares"),
)
NOT_MEASURED = re.compile(r"\s+Its\s+own\s+figure\s+on\s+\S+\s+has\s+not\s+been\s+measured\s+yet\.")
NO_MODEL = """This folder will hold a trained model: `monai-sagan bundle pack {name} DIR --run RUN` packs one that
`python -m monai.bundle run --config_file configs/train.json` has left in RUN.
"""


def pack_bundle(name: str, directory: str | os.PathLike[str], run: str | os.PathLike[str] | None = None) -> Path:
    """Write a bundle in the layout of MONAI's bundle specification, as real copies, and return its folder.

    ``configs/`` and ``docs/`` come from the bundle. With a run, ``models/`` holds its model chosen without labels:
    ``model.pt``, a plain state_dict for MONAI's tools, and ``artifact/``, the same weights without pickle, which
    ``inference.json`` and ``evaluate.json`` then use; ``train.json`` repeats the run's settings, and
    ``metadata.json`` has the network's format. Of the run's images only digests of their pixels are packed, by which
    an evaluation refuses images that were trained on. Without a run both use the output of ``train.json`` in
    ``runs/``.

    >>> sorted(path.name for path in pack_bundle("phantom", "packed").iterdir())
    ['LICENSE', 'configs', 'docs', 'models']

    Args:
        name: see `bundle_names`.
        directory: a folder that is new or empty.
        run: the output folder of a training run.

    Raises:
        SaganError: for an unknown bundle, a folder that is not empty, or if the run is incomplete or another
            bundle's; nothing is written then.
    """
    source = Path(bundle_path(name))
    configs: dict[str, Any] = {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(source.glob("*.json"))
    }
    for config in ("train.json", "evaluate.json", "inference.json"):
        configs[config]["bundle_root"] = OWN_FOLDER
    with new_folder(directory) as folder:
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir()
        if run is None:
            write_text(folder / "models" / "README.md", NO_MODEL.format(name=name))
        else:
            _pack_run(name, Path(run), configs, folder / "models")
        for file, config in configs.items():
            write_text(folder / "configs" / file, json.dumps(config, indent=4) + "\n")
        shutil.copyfile(source / "logging.conf", folder / "configs" / "logging.conf")
        shutil.copyfile(source / "LICENSE", folder / "LICENSE")
        shutil.copyfile(source / "DATA_LICENSE.md", folder / "docs" / "data_license.txt")
        readme = (source / "README.md").read_text(encoding="utf-8").replace(f"bundles/{name}/", "configs/")
        write_text(folder / "docs" / "README.md", readme if run is None else _with_figures(readme, Path(run)))
    return Path(directory).resolve()


def _pack_run(name: str, run: Path, configs: Mapping[str, Any], models: Path) -> None:
    """Fill ``models/`` and adapt the configs to the model."""
    from monai_sagan.artifact.export import export_artifact
    from monai_sagan.data.digests import splits_digest
    from monai_sagan.models.trained import load_trained, run_models

    model = run_models(run)["aucp"]
    trained = load_trained(model)
    made_by = _read(run / run_files.CONFIG).get("bundle", name)
    if made_by != name:
        raise SaganError(f"{run} is a run of the bundle {made_by}, not of {name}; pack {made_by}, or give another run")
    made_with, digests = _made_with(run, trained, configs["train.json"]), _digests(run)
    if trained.run and trained.run["splits"] != splits_digest(digests):
        raise SaganError(f"{run / run_files.SPLITS} is not of the run that made {model}; give a complete run")
    save_tensors(trained.network.state_dict(), models / run_files.MODEL)
    export_artifact(model, models / PACKED_MODEL, "safetensors", name=name)
    write_text(models / run_files.SPLITS, json.dumps(digests) + "\n")
    write_text(models / run_files.CONFIG, json.dumps(made_with, indent=2) + "\n")
    if (run / run_files.HISTORY).is_file():
        shutil.copyfile(run / run_files.HISTORY, models / run_files.HISTORY)

    train = configs["train.json"]
    for key, value in made_with.items():
        if key in train or key in vars(trained.settings):  # a method's own options stand below "settings"
            _put(train, option_key(key, train).split("#"), value)
    for place, value in (_read(run / run_files.CONFIG).get("overrides") or {}).items():
        _put(train, place.split("#"), value)
    _use_packed_model(name, configs)
    formats = configs["metadata.json"]["network_data_format"]
    for one in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        one |= {"num_channels": trained.settings.in_channels, "spatial_shape": list(trained.settings.image_size)}
    configs["metadata.json"]["eval_metrics"] = _metrics(run)


def _use_packed_model(name: str, configs: Mapping[str, Any]) -> None:
    """Let ``inference.json`` and ``evaluate.json`` read the model in ``models/`` and write outside of the bundle."""
    path_in = "monai_sagan.bundle.path_in"
    inside = {"_target_": path_in, "folder": "@bundle_root"}
    inference, evaluate = configs["inference.json"], configs["evaluate.json"]
    inference |= {"model": inside | {"name": f"models/{PACKED_MODEL}"}, "output_dir": f"runs/{name}/inference"}
    evaluate["output_dir"] = f"runs/{name}/evaluation"
    for value in evaluate.values():  # what an evaluation writes beside a run, such as the cache, is not in a bundle
        if isinstance(value, dict) and value.get("_target_") == path_in:
            value["folder"] = "@output_dir"
    evaluate["run_dir"] = inside | {"name": "models"}


def _made_with(run: Path, trained: Trained, train: Mapping[str, Any]) -> dict[str, Any]:
    """The values for ``train`` that train such a model again: those that it and the preset do not have already."""
    from monai_sagan.methods import resolve_settings
    from monai_sagan.settings import as_plain

    config = _read(run / run_files.CONFIG)
    preset = config.get("preset", "recommended")
    by_itself = as_plain(resolve_settings(preset, trained.settings.method))
    made = as_plain(trained.settings)
    given = {name: made[name] for name in made if made[name] != by_itself[name] or train.get(name) is not None}
    words = {
        name: "none" for name, value in given.items() if value is None
    }  # null in a config means the preset's value
    shared = config | config.get("dataset_options", {}) | ({"seed": trained.run["seed"]} if trained.run else {})
    return {"preset": preset} | given | words | {name: shared[name] for name in SHARED if name in shared}


def _put(config: Any, place: Sequence[str], value: Any) -> None:
    """Write ``value`` into a ``config`` at the id that has the parts ``place``."""
    *parents, last = place
    for key in parents:
        config = config[int(key) if isinstance(config, list) else key]
    if isinstance(config, list):
        config[int(last) :] = [value, *config[int(last) + 1 :]]
    else:
        config[last] = value


def _digests(run: Path) -> dict[str, list[dict[str, Any]]]:
    """The run's ``splits.json`` without paths, patients and test images."""
    splits = _read(run / run_files.SPLITS)
    kept = {name: items for name, items in splits.items() if name != "test"}
    try:
        return {
            name: [{"image": f"{name}/{i}", "label": item["label"], "digest": item["digest"]} for i, item in pairs]
            for name, pairs in ((name, enumerate(items)) for name, items in kept.items())
        } | {"test": []}
    except (KeyError, TypeError):
        raise SaganError(f"{run / run_files.SPLITS} is broken; give the complete folder of a training run") from None


def _metrics(run: Path) -> dict[str, float]:
    """The measured AUC and AP of the packed model, where the run was evaluated."""
    found = _read(run / run_files.METRICS).get("aucp", {}) if (run / run_files.METRICS).is_file() else {}
    return {name: found[name] for name in ("auc", "ap") if found.get(name) is not None}


def _with_figures(readme: str, run: Path) -> str:
    """A bundle's README with the figures that the run measured, in place of the note that none were."""
    found = _metrics(run)
    if not found:
        return readme
    metrics = _read(run / run_files.METRICS)
    counts = " and ".join(f"{metrics[f'n_{kind}']} {kind}" for kind in ("normal", "abnormal") if f"n_{kind}" in metrics)
    figures = ", ".join(f"{name.upper()} {100 * value:.2f}" for name, value in found.items())
    text = (
        f"**The packed model's figures** (percent): {figures}, measured by its run on that run's own test images"
        f"{f' ({counts})' if counts else ''}. They are of one run, and of the images that it was given."
    )
    return f"{NOT_MEASURED.sub('', readme).rstrip()}\n\n{text}{_best_baseline(metrics)}\n"


def _best_baseline(metrics: Mapping[str, Any]) -> str:
    """A sentence on the best of the baselines on the same images, if any was computed."""
    blocks = metrics.get("baselines") or {}
    known = {name: block["auc"] for name, block in blocks.items() if (block or {}).get("auc") is not None}
    if not known:
        return ""
    name = max(known, key=known.__getitem__)
    return f" The best baseline on the same images ({name.replace('_', ' ')}): AUC {100 * known[name]:.2f}."


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SaganError(f"{path} cannot be read ({error.strerror}); give the folder of a training run") from None
    except (ValueError, TypeError):
        raise SaganError(f"{path} is broken; give the complete folder of a training run") from None
