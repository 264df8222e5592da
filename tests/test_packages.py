"""Install commands name packages that pip finds, the same as setup.py's extras."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from monai_sagan.packages import TOGETHER, pip_install

ROOT = Path(__file__).parents[1]


def lists_of_setup():
    """The lists of requirements that setup.py gives a name, without versions."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)]
    return {n.targets[0].id: tuple(re.split("[<>=]", name)[0] for name in ast.literal_eval(n.value)) for n in found}


def test_no_message_names_a_package_that_is_on_no_index():
    """This one is installed from a checkout; its name with an extra would install nothing, or torch where none is."""
    for path in (ROOT / "monai_sagan").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "monai-sagan[" not in text, path
        assert not re.search(r"pip install \S*monai-sagan", text), path


def test_setup_names_the_same_packages():
    extras = lists_of_setup()
    assert TOGETHER["dicom"] == extras["DICOM"]
    assert TOGETHER["onnx"] == extras["EXPORT"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("dicom", "pip install python-gdcm pylibjpeg pylibjpeg-openjpeg pyjpegls"),
        ("onnxruntime", "pip install onnxruntime"),
        ("sklearn.metrics", "pip install scikit-learn"),
        ("safetensors.torch", "pip install safetensors"),
    ],
)
def test_commands(name, command):
    assert pip_install(name) == command
