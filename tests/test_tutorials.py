"""Every tutorial runs from top to bottom, and what is committed reads well."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(path.name for path in TUTORIALS.glob("*.ipynb"))
SMALLER = {  # than what is committed: the same cells with less training
    "1_restore_and_score.ipynb": {"ITERATIONS": 20, "TEST_IMAGES": 60, "FORMAT": "torchscript"},
    "2_your_own_images.ipynb": {"ITERATIONS": 20},
    "3_rsna_to_report.ipynb": {"ITERATIONS": 10},
    "6_ablations.ipynb": {"ROWS": ["base", "both"], "SEEDS": "0", "ITERATIONS": 4},
}


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tutorials", TUTORIALS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_six_and_the_table_names_them():
    assert [name[:2] for name in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_", "6_"]
    assert re.findall(r"^\| \[.*?\]\(\./(.*?)\)", (TUTORIALS / "README.md").read_text(), re.MULTILINE) == NOTEBOOKS
    assert set(SMALLER) <= set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name, runner, tmp_path):
    done = runner.execute(TUTORIALS / name, tmp_path, SMALLER.get(name))  # raises where a cell does
    cells = code_cells(done)
    assert any(line.lstrip().startswith("assert ") for cell in cells for line in cell.source.splitlines())
    check_outputs(runner.tidy(done, tmp_path))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_committed_reads_well(name):
    notebook = nbformat.read(TUTORIALS / name, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(1 for cell in cells if cell.outputs) >= len(cells) / 3
    assert notebook.cells[0].source.startswith("# ")
    check_outputs(notebook)


def check_outputs(notebook):
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")
        data = output.get("data", {})
        shown = "".join(str(text) for kind, text in data.items() if not kind.startswith("image/"))
        text = output.get("text", "") + shown
        assert not re.search(r"(?<![\w.])(/tmp|/home|/root|/work|/var|/Users|[A-Z]:\\)", text), text
        assert not re.search(r"\d+%\||\r", text), "a progress bar"
        assert len(text) < 5000, "a flood of text"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_between_them_lead_somewhere(name):
    notebook = nbformat.read(TUTORIALS / name, as_version=4)
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (TUTORIALS / target).is_file()] == []


def test_all_together_are_small():
    assert sum((TUTORIALS / name).stat().st_size for name in NOTEBOOKS) < 3e6


def test_a_parameter_that_is_not_there_is_named(runner, tmp_path):
    with pytest.raises(ValueError, match="sets EPOCH 0 times"):
        runner.execute(TUTORIALS / "4_reuse_the_parts.ipynb", tmp_path, {"EPOCH": 3})
