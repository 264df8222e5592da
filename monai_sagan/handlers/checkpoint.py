"""Going on where a run stopped, on a CPU bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_sagan.distributed import rank_and_count
from monai_sagan.errors import SaganError
from monai_sagan.files import load_tensors, save_tensors

__all__ = ["ResumeCheckpoint"]

logger = logging.getLogger(__name__)


class ResumeCheckpoint:
    """Save everything that resuming needs at the end of epochs, and load it at the start when it is there.

    On the CPU the run goes on bit for bit, elsewhere up to rounding, which its log then says. The file is whole at any
    moment, and holds tensors and plain numbers only. Attach it after the handlers whose results belong into it.

    Args:
        path: of the checkpoint.
        objects: what has ``state_dict`` and ``load_state_dict``, by name: networks, optimizers, handlers.
        settings: plain values that a resumed run must share.
        may_differ: names of settings that may differ all the same.
        up_to_rounding: names of settings that may differ, too, but change the last digits: then a warning says so.
        interval: epochs between checkpoints; the last epoch is always saved.

    Raises:
        SaganError: at the start, when the file does not fit: it names the setting or the object.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        settings: Mapping[str, Any],
        may_differ: tuple[str, ...] = ("max_iterations",),
        up_to_rounding: tuple[str, ...] = ("amp", "engine"),
        interval: int = 1,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        count = rank_and_count()[1]
        self.settings = dict(settings) | ({"processes": count} if count > 1 else {})
        self.may_differ = may_differ
        self.up_to_rounding = up_to_rounding
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Load when ``engine``, the trainer, starts, and save at the end of its epochs."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Save, when it is this epoch's turn in ``engine``."""
        if engine.state.epoch % self.interval and engine.state.epoch != engine.state.max_epochs:
            return
        states = {name: thing.state_dict() for name, thing in self.objects.items()}
        content = {"iteration": engine.state.iteration, "device": _kind(engine), "settings": self.settings}
        save_tensors(content | {"states": states}, self.path)

    def load(self, engine: Engine) -> None:
        """Take the checkpoint's place in the run of ``engine``, if there is one."""
        if not self.path.is_file():
            return
        content = load_tensors(self.path)
        self._check(content)
        self._check_length(content["iteration"], engine)
        for name, thing in self.objects.items():
            thing.load_state_dict(content["states"][name])
        engine.state.iteration = content["iteration"]
        engine.state.epoch = content["iteration"] // (engine.state.epoch_length or 1)
        here = _kind(engine)
        exactly = "" if here == "cpu" else ", up to rounding: a GPU may add in another order each time"
        logger.info(f"resumed from {self.path} at iteration {content['iteration']}{exactly}")
        if (there := content.get("device", here)) != here:
            logger.warning(f"{self.path} was made on {there}, this run is on {here}: its draws differ from here on")

    def _check(self, content: Mapping[str, Any]) -> None:
        if not {"iteration", "settings", "states"} <= set(content) or set(content["states"]) != set(self.objects):
            raise SaganError(f"{self.path} is no checkpoint of this kind of run; use another output_dir")
        for name, value in ({"processes": None} | self.settings).items():
            saved = content["settings"].get(name)
            if saved == value or name in self.may_differ:
                continue
            if name in self.up_to_rounding:
                logger.warning(
                    f"{self.path} was made with {name} {saved}, this run has {value}: it goes on, up to rounding"
                )
            else:
                raise SaganError(
                    f"{self.path} was made with {name} {saved}, this run has {value}; set it back to go on with that "
                    f"run, or use another output_dir"
                )

    def _check_length(self, done: int, engine: Engine) -> None:
        asked = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        if 0 < asked < done:
            raise SaganError(
                f"{self.path} has done {done} iterations already, this run asks for {asked}; give --max_iterations "
                f"{done} or more, or use another output_dir"
            )


def _kind(engine: Engine) -> str:
    return torch.device(getattr(engine.state, "device", "cpu")).type
