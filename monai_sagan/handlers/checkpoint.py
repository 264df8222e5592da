"""Save and resume training, bit for bit on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from monai_sagan.distributed import rank_and_count
from monai_sagan.errors import SaganError, no_room
from monai_sagan.files import load_tensors, save_tensors
from monai_sagan.records import write_records

__all__ = ["ResumeCheckpoint"]

logger = logging.getLogger(__name__)

MAY_DIFFER, UP_TO_ROUNDING = ("max_iterations",), ("amp", "engine")


def check_settings(
    path: str | Path, settings: Mapping[str, Any], may_differ: tuple[str, ...] = MAY_DIFFER + UP_TO_ROUNDING
) -> None:
    """Check that a checkpoint, if present, was made with the same settings, except for those that ``may_differ``.

    Raises:
        SaganError: naming the setting that differs, or a file that is not a checkpoint.
    """
    if Path(path).is_file():
        _compare(Path(path), load_tensors(path, mmap=True).get("settings", {}), settings, may_differ)


def _compare(path: Path, saved: Mapping[str, Any], settings: Mapping[str, Any], may_differ: tuple[str, ...]) -> None:
    saved = {"method": "sagan", "output": "tanh", **saved}  # the only values of older versions
    for name, value in settings.items():
        if saved.get(name) != value and name not in may_differ:
            raise SaganError(
                f"{path} was made with {name} {saved.get(name)}, this run has {value}; set it back to resume that "
                f"run, or use another output_dir"
            )


class ResumeCheckpoint:
    """Save a checkpoint at the end of epochs, and resume from it at the start if it exists.

    A resumed run repeats the interrupted one bit for bit on the CPU, and up to rounding elsewhere, which is logged. The
    file is replaced atomically and holds tensors and plain numbers only. Attach it after the handlers whose state it
    saves.

    >>> network = torch.nn.Linear(1, 1)
    >>> for epochs in (2, 5):
    ...     trainer = Engine(lambda engine, batch: None)
    ...     ResumeCheckpoint("checkpoint.pt", {"network": network}, {"seed": 0}).attach(trainer)
    ...     seen = []
    ...     handler = trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: seen.append(engine.state.epoch))
    ...     state = trainer.run([None], max_epochs=epochs)
    >>> seen
    [3, 4, 5]

    Args:
        path: of the checkpoint.
        objects: networks, optimizers and handlers with ``state_dict`` and ``load_state_dict``, by name.
        settings: plain values that a resumed run must share.
        may_differ: names of settings that may differ.
        up_to_rounding: names of settings that change results only up to rounding; a difference is logged as a warning.
        interval: epochs between checkpoints; the last epoch is always saved.

    Raises:
        SaganError: at the start, naming the setting or object that does not match the checkpoint.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        settings: Mapping[str, Any],
        may_differ: tuple[str, ...] = MAY_DIFFER,
        up_to_rounding: tuple[str, ...] = UP_TO_ROUNDING,
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
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._name_full_disk)

    def save(self, engine: Engine) -> None:
        """Save, when it is this epoch's turn in ``engine``."""
        if engine.state.epoch % self.interval and engine.state.epoch != engine.state.max_epochs:
            return
        states = {name: thing.state_dict() for name, thing in self.objects.items()}
        content = {"iteration": engine.state.iteration, "device": _kind(engine), "settings": self.settings}
        save_tensors(content | {"states": states}, self.path)

    def check(self) -> None:
        """Check that the checkpoint, if there is one, is of this run; nothing is loaded yet.

        Raises:
            SaganError: when it does not fit: it names the setting or the object.
        """
        if self.path.is_file():
            self._check(load_tensors(self.path, mmap=True))

    def load(self, engine: Engine) -> None:
        """Take the checkpoint's place in the run of ``engine``, if there is one."""
        if not self.path.is_file():
            write_records(self.path.parent)
            return
        content = load_tensors(self.path)
        self._check(content)
        self._check_length(content["iteration"], (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0))
        write_records(self.path.parent)
        self._warn(content["settings"])
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
            raise SaganError(f"{self.path} is not a checkpoint of this kind of run; use another output_dir")
        may_differ = (*self.may_differ, *self.up_to_rounding)
        _compare(self.path, content["settings"], {"processes": None} | self.settings, may_differ)
        self._check_length(content["iteration"], self.settings.get("max_iterations", 0))

    def _warn(self, settings: Mapping[str, Any]) -> None:
        for name, value in self.settings.items():
            if name in self.up_to_rounding and (saved := settings.get(name)) != value:
                logger.warning(
                    f"{self.path} was made with {name} {saved}, this run has {value}: it resumes, up to rounding"
                )

    def _name_full_disk(self, error: BaseException) -> None:
        """Say what could not be written, which some writers, such as TensorBoard's, do not."""
        if message := no_room(error, self.path.parent):
            raise SaganError(message) from None
        raise error

    def _check_length(self, done: int, asked: int) -> None:
        if 0 < asked < done:
            raise SaganError(
                f"{self.path} has done {done} iterations already, this run asks for {asked}; give --max_iterations "
                f"{done} or more, or use another output_dir"
            )


def _kind(engine: Engine) -> str:
    return torch.device(getattr(engine.state, "device", "cpu")).type
