"""What torchrun starts in the tests: a bundle's training, and then the weights of each process into a file.

torchrun ... worker.py BUNDLE FOLDER DIES_AT '{"key": value}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from monai_sagan.bundle import bundle_path


def main() -> None:
    torch.set_num_threads(1)
    name, folder, dies_at, values = sys.argv[1:]
    bundle, rank = Path(bundle_path(name)), int(os.environ["RANK"])
    files = [str(bundle / file) for file in ("train.json", "multi_gpu_train.json")]
    flow = ConfigWorkflow(files, logging_file=str(bundle / "logging.conf"), workflow_type="train", **json.loads(values))
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train#trainer")
    if int(dies_at) and rank == 1:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=int(dies_at)), lambda: os.kill(os.getpid(), signal.SIGKILL)
        )
    flow.run()
    states = trainer.stages.states().items()
    weights = {name: thing.state_dict() for name, thing in states if isinstance(thing, torch.nn.Module)}
    torch.save(weights, Path(folder) / f"rank{rank}.pt")
    flow.finalize()


if __name__ == "__main__":
    main()
