"""The start and the end of every run: its folder, log and configuration."""

from __future__ import annotations

import atexit
import json
import logging
import sys
from contextlib import ExitStack, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from monai_sagan import run_files
from monai_sagan.distributed import is_main
from monai_sagan.errors import SaganError
from monai_sagan.models.device import check_device
from monai_sagan.models.trained import read_run, run_models
from monai_sagan.output_folder import config_kind, hold_folder
from monai_sagan.records import drop_records, keep_records, record_text
from monai_sagan.settings import Settings, as_plain

logger = logging.getLogger(__name__)

_runs: dict[Path, ExitStack] = {}  # of this process, by their folders: to be closed at their end


def start_run(output_dir: str | Path, settings: Settings | None = None, **values: Any) -> Path:
    """Lock the output folder, and keep ``config.json`` and the log for it until everything is checked.

    `monai_sagan.records` then writes them, so a run that fails its checks leaves the folder as it was. ``values`` are
    all that determine the run beside ``settings``: a ``run_dir`` makes it an evaluation, which inherits the values of
    that run, a ``model`` a prediction. Of several processes only the main one does this; the others log warnings.
    """
    if "device" in values:
        check_device(values["device"])
    output = Path(output_dir).resolve()
    if not is_main():
        logging.getLogger().setLevel(logging.WARNING)
        return output
    kind = config_kind(values) or "training run"
    config = _of_run(values.get("run_dir")) | {"kind": kind} | values | (as_plain(settings) if settings else {})
    end_run(output)  # of an earlier run of this process that failed, as in a notebook
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_folder(output, kind))
        except OSError as error:
            raise SaganError(
                f"cannot write to {output} ({error.strerror}); give another folder by --output_dir"
            ) from None
        lines = MemoryHandler(0, flushOnClose=False)
        logging.getLogger().addHandler(lines)
        stack.callback(_close, lines)
        keep_records(output, lambda: _write_log(lines, output / run_files.LOG))
        stack.callback(drop_records, output)
        _runs[output] = stack.pop_all()
    record_text(output / run_files.CONFIG, json.dumps(config, indent=2, default=str) + "\n")
    logger.info(f"everything that this run writes goes below {output}")
    logger.info("settings: " + ", ".join(f"{name} {value}" for name, value in config.items()))
    return output


@atexit.register
def end_run(output_dir: str | Path | None = None) -> None:
    """Close the log and unlock the folder of a run that `start_run` started, or of all runs of this process."""
    for output in list(_runs) if output_dir is None else [Path(output_dir).resolve()]:
        _runs.pop(output, ExitStack()).close()


class _LogFile(logging.FileHandler):
    """A file whose errors end the run in one line, instead of a stack trace for each line of the log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is Python's)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            return super().handleError(record)
        raise OSError(error.errno, error.strerror, self.baseFilename) from None


def _write_log(lines: MemoryHandler, path: Path) -> None:
    """Write the log to a file, the lines kept so far included."""
    file = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    lines.setTarget(file)
    lines.flush()


def _close(lines: MemoryHandler) -> None:
    logging.getLogger().removeHandler(lines)
    with suppress(OSError):
        if lines.target:
            lines.target.close()
    lines.close()


def _of_run(run_dir: str | Path | None) -> dict[str, Any]:
    """The values of a training run: its ``config.json``, with the seed of its model."""
    if run_dir is None:
        return {}
    path, config, made_with = Path(run_dir) / run_files.CONFIG, {}, {}
    with suppress(OSError, ValueError):  # loading its models reports an incomplete run
        config = dict(json.loads(path.read_text(encoding="utf-8")))
    with suppress(SaganError):
        made_with = read_run(run_models(run_dir)["aucp"])
    return config | ({"seed": made_with["seed"]} if made_with else {})
