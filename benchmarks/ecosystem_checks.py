"""MONAI's own checks on the packed copy of every bundle, with the line that each one ends with.

    python benchmarks/ecosystem_checks.py

Each bundle first makes a small run on generated images, whose layout all read, and is packed with it. Needs onnx and
onnxscript; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import (
    ConfigWorkflow,
    ckpt_export,
    load_bundle_config,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)

from monai_sagan.bundle import bundle_names, bundle_path
from monai_sagan.bundle.pack import pack_bundle
from monai_sagan.data.datasets.phantom import write_phantom

SCHEMA = Path(__file__).parents[1] / "tests" / "bundles" / "metadata_schema.json"
COUNTS = {"train_normal": 20, "unlabeled_normal": 8, "unlabeled_abnormal": 12, "test_normal": 6, "test_abnormal": 6}
SMALL = {"channels": 4, "num_res_blocks": 1, "batch_size": 4, "max_iterations": 4, "iterations_per_epoch": 2}
DATA = {"anomaly_ratio": None, "device": "cpu"}


class LastLine(logging.Handler):
    """Keeps what was logged last."""

    line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of ``record``."""
        self.line = record.getMessage().strip() or self.line


def main() -> None:
    """Print a line for each check; end with the first error."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    last = LastLine(logging.INFO)
    for name in ("monai.bundle.scripts", "monai.bundle.workflows", "monai.apps"):
        logging.getLogger(name).handlers = [last]  # MONAI's own print each line at once

    def check(name: str, what: str, function: Callable[..., Any], *args: Any, **values: Any) -> None:
        begin, last.line = time.monotonic(), ""
        with contextlib.redirect_stdout(io.StringIO()):  # the exporters' chatter
            result = function(*args, **values)
        said = result if isinstance(result, str) else last.line
        print(f"{name:10} {what:28} {time.monotonic() - begin:5.1f} s  {said.replace(str(scratch), '...')}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = write_phantom(scratch / "data", counts=COUNTS)
        values = {"dataset_dir": str(data), **DATA}
        for name in bundle_names():
            run, flat = scratch / f"run-{name}", str(Path(bundle_path(name)) / "train.json")
            check(name, "a small run", _workflow, flat, "train", output_dir=str(run), **SMALL, **values)
            bundle = pack_bundle(name, scratch / name, run)
            train, evaluate, inference, meta = (
                str(bundle / "configs" / f"{config}.json") for config in ("train", "evaluate", "inference", "metadata")
            )
            files = {"meta_file": meta, "config_file": train}
            check(name, "verify_metadata", verify_metadata, meta_file=meta, filepath=str(SCHEMA))
            check(name, "verify_net_in_out train", verify_net_in_out, "network_def", meta, train, device="cpu")
            check(name, "verify_net_in_out inference", verify_net_in_out, "network_def", meta, inference, device="cpu")
            check(name, "ckpt_export", ckpt_export, config_file=train, bundle_root=str(bundle))
            weights = {"ckpt_file": str(bundle / "models/model.pt"), "filepath": str(bundle / "models/model.onnx")}
            check(name, "onnx_export", onnx_export, net_id="network_def", **weights, **files)
            check(name, "load_bundle_config", _load, bundle)
            out = str(scratch / f"out-{name}")
            check(name, "train", _workflow, train, "train", output_dir=f"{out}/train", **values)
            options = {"dataset_dir": str(data), "device": "cpu"}
            check(name, "evaluate", _workflow, evaluate, None, output_dir=f"{out}/evaluate", **options)
            options = {"dataset_dir": str(data / "images"), "device": "cpu"}
            check(name, "inference", _workflow, inference, "infer", output_dir=f"{out}/inference", **options)


def _workflow(config: str, kind: str | None, **values: Any) -> str:
    """Run a config as the model zoo's tests do; say what of the properties is missing."""
    flow = ConfigWorkflow(config, workflow_type=kind, logging_file=False, **values)
    flow.initialize()
    missing = flow.check_properties() if kind else "not asked"
    flow.run()
    flow.finalize()
    return f"initialize, run, finalize; properties missing: {missing}"


def _load(bundle: Path) -> str:
    parser = load_bundle_config(str(bundle), "train.json")
    network = type(parser.get_parsed_content("network_def")).__name__
    return f"train.json and metadata.json of {parser['_meta_::name']}, network_def {network}"


if __name__ == "__main__":
    main()
