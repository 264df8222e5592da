"""The beginning of every run: where it writes, what it logs, what it was asked to do."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from monai_sagan.distributed import is_main
from monai_sagan.engines.device import check_device
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.settings import Settings, as_plain

__all__ = ["start_run"]

logger = logging.getLogger(__name__)


def start_run(output_dir: str | Path, settings: Settings | None = None, **values: Any) -> Path:
    """Make the output folder, log into its ``log.txt`` too, and write ``config.json``: all values that decide the run.

    Of several processes the main one does; the others keep quiet, but for warnings.

    Args:
        output_dir: everything that the run writes goes below it.
        settings: of a training run.
        values: what else decides the run; paths become strings. Of a ``run_dir`` among them, what that run was made
            with comes along.

    Raises:
        SaganError: when the folder cannot be written, or a ``device`` among the values is not there.
    """
    if "device" in values:
        check_device(values["device"])
    output = Path(output_dir).resolve()
    if not is_main():
        logging.getLogger().setLevel(logging.WARNING)
        return output
    config = _of_run(values.get("run_dir")) | values | (as_plain(settings) if settings else {})
    text = json.dumps(config, indent=2, default=str) + "\n"
    try:
        output.mkdir(parents=True, exist_ok=True)
        log = logging.FileHandler(output / "log.txt", encoding="utf-8", errors="backslashreplace")
        write_text(output / "config.json", text)
    except OSError as error:
        raise SaganError(f"cannot write to {output} ({error.strerror}); give another folder by --output_dir") from None
    log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(log)
    logger.info(f"everything that this run writes goes below {output}")
    logger.info("settings: " + ", ".join(f"{name} {value}" for name, value in config.items()))
    return output


def _of_run(run_dir: str | Path | None) -> dict[str, Any]:
    path = Path(run_dir or "") / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if run_dir else {}
    except (OSError, ValueError):
        return {}  # the run's models will tell what is wrong with it
