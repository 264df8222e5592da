"""Run tutorials from top to bottom and keep their outputs: ``python tutorials/run.py [NOTEBOOK ...]``, all by default.

Each runs in an empty temporary folder, so what a notebook writes stays out of the checkout, and its output names no
folder of this machine.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TUTORIALS = Path(__file__).resolve().parent
SECONDS = 600  # for one cell
# One thread: networks this small only wait for each other's. The warning is about widgets that a page does not show.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}


def execute(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> NotebookNode:
    """The notebook with the outputs of all cells, run in ``folder``.

    Args:
        path: of the notebook.
        folder: an empty one, where it runs.
        parameters: values for names that the cell tagged ``parameters`` sets; they replace those in the copy that runs.

    Raises:
        ValueError: for a parameter that the cell does not set on a line of its own.
        nbclient.exceptions.CellExecutionError: when a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        _set_parameters(notebook, parameters)
    path_of_commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **ENVIRONMENT, "PATH": path_of_commands}  # "!python" is this one
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute(env=environment)
    return notebook


def _set_parameters(notebook: NotebookNode, parameters: Mapping[str, Any]) -> None:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in parameters.items():
        cell.source, count = re.subn(rf"(?m)^{name} = [^#\n]*?(?=  #|$)", f"{name} = {value!r}", cell.source)
        if count != 1:
            raise ValueError(f"the parameters' cell sets {name} {count} times; it is to be set once, on its own line")


def tidy(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The executed notebook without what differs from run to run or between terminals.

    Times and ids go, the folder becomes ``.``, and lines end as files' lines do, not as terminals' do.
    """
    names = sorted({str(folder), str(folder.resolve())}, key=len, reverse=True)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            for holder in (output, output.get("data", {})):
                for key, text in holder.items():
                    if isinstance(text, str) and not key.startswith("image/"):
                        for name in names:
                            text = text.replace(name, ".")
                        holder[key] = text.replace("\r\n", "\n")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},  # which knows "!" and "%"
    }
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """One piece of text where a stream came in several, which depends on the time."""
    joined: list[NotebookNode] = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before and output.output_type == before.output_type == "stream" and output.name == before.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined


def main(words: list[str]) -> None:
    for path in [Path(word) for word in words] or sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as name:
            notebook = tidy(execute(path, Path(name)), Path(name))
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
