"""What is imported when, and by whom: a start waits for what it needs and for nothing else; arrows run downward only.

How long a start takes is measured by ``benchmarks/start_time.py``; ``python tests/import_graph.py`` prints the arrows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import as_text, cycles, file_graph, folder_graph

import monai_sagan

HEAVY = {"torch", "monai", "ignite", "matplotlib", "sklearn", "scipy", "torchvision", "tensorboard", "pandas"}
AT_EXIT = f"import atexit, sys\natexit.register(lambda: print('\\nloaded', *({HEAVY} & sys.modules.keys())))\n"


def loaded(code: str, folder: Path) -> set[str]:
    """Which of `HEAVY` a fresh process has imported after ``code``, however that ended."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT + code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    word, *modules = done.stdout.splitlines()[-1].split()
    assert word == "loaded"
    return set(modules)


@pytest.mark.parametrize(
    "code",
    [
        "import monai_sagan; monai_sagan.__version__",
        "import monai_sagan; monai_sagan.SaganError",
        "import monai_sagan.errors, monai_sagan.files",
        "from monai_sagan.cli import main; main(['--help'])",
        "from monai_sagan.cli import main; main(['study', '--help'])",
        "from monai_sagan.cli import main; main(['no such verb'])",
    ],
)
def test_a_light_start(code, tmp_path):
    assert loaded(code, tmp_path) == set()


def test_names_come_when_they_are_asked_for(tmp_path):
    assert loaded("import monai_sagan; monai_sagan.SaganGenerator", tmp_path) >= {"torch"}


def test_decoding_needs_no_deep_learning(tmp_path):
    found = {path.stem for path in Path(monai_sagan.__file__).parent.glob("data/formats/[a-z]*.py")}
    formats = sorted(found - {"monai_reader"})
    names = [*(f"formats.{name}" for name in formats), "datalist", "datasets.layouts", "cache", "prepare"]
    code = "import " + ", ".join(f"monai_sagan.data.{name}" for name in names)
    assert not loaded(code, tmp_path) & {"torch", "monai", "ignite", "matplotlib", "sklearn"}


def test_scoring_a_folder_needs_no_deep_learning(tmp_path):
    names = sorted(path.stem for path in Path(monai_sagan.__file__).parent.glob("predict/[a-z]*.py"))
    code = "import " + ", ".join(f"monai_sagan.predict.{name}" for name in names)
    assert not loaded(code, tmp_path) & {"torch", "monai", "ignite", "matplotlib", "sklearn"}


def test_workers_decode_without_deep_learning(tmp_path):
    (tmp_path / "look.py").write_text(
        "import sys\n"
        "from monai_sagan.data.cache import load_image\n"
        "def look(task):\n"
        f"    return load_image(*task).shape, {HEAVY} & sys.modules.keys()\n"
    )
    code = (
        "sys.path.insert(0, '.')\n"
        "import numpy as np\nfrom PIL import Image\nfrom look import look\n"
        "from monai_sagan.data.cache import HowToDecode\nfrom monai_sagan.data.formats.workers import run_in_workers\n"
        "Image.fromarray(np.zeros((4, 4), np.uint8)).save('a.png')\n"
        "results = list(run_in_workers(look, [('a.png', HowToDecode((8, 8)))], 1))\n"
        "assert results == [((1, 8, 8), set())], results\n"
    )
    assert not loaded(code, tmp_path) & {"torch", "monai"}


def test_nothing_imports_in_a_circle():
    """Lazy imports count, too: neither files nor folders depend on each other."""
    files = file_graph()
    assert cycles(files) == []
    assert cycles(folder_graph(files)) == []


def test_circles_are_found(tmp_path):
    sources = {
        "__init__.py": "from box.a.one import x",
        "a/__init__.py": "",
        "a/one.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from box.b import four",
        "a/two.py": "def f():\n    from box.b.three import x, y",
        "b/__init__.py": "from box.b.three import x",
        "b/three.py": "try:\n    from box import b\nexcept ImportError:\n    import box.a.one",
        "b/four.py": "import numpy, box.top",
        "top.py": "from box.b import four",
    }
    for name, source in sources.items():
        (tmp_path / "box" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "box" / name).write_text(source)
    files = file_graph(tmp_path / "box")
    assert files["a/one.py"] == set()
    assert files["a/two.py"] == {"b/three.py"}
    assert cycles(files) == ["b/__init__.py > b/three.py > b/__init__.py", "b/four.py > top.py > b/four.py"]
    folders = folder_graph(files)
    assert cycles(folders) == ["a > b > a", "b > top.py > b"]
    assert as_text(folders).splitlines()[0].startswith("a ")
