"""Checks that a ``torch_export`` archive holds tensors and a program of torch's operators, and no other code.

`torch.export.load` unpickles what an archive asks for, and evaluates texts of the program as Python. So it never gets
a file as it is, but a copy in which every entry was found on the lists here.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from monai_sagan.errors import SaganError

SAMPLES = "data/sample_inputs/model.pt"  # torch reads it as a pickle, and skips an empty one
PROGRAM = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
ENTRY = re.compile(
    r"archive_(format|version)|byteorder|\.data/(version|serialization_id)|data/(weights/weight|constants/tensor)_\d+"
)
OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+|"
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_)",
    re.ASCII,
)
TEXT = re.compile(r"[\w.+]*", re.ASCII)  # names and versions: nothing that Python reads as more than a name
WORDS = ("floor", "trunc", "none", "tanh", "same", "valid")  # of operators; no names of files
# Sizes of images as sympy writes them.
FORMULA = re.compile(
    r"(\b(Symbol|Integer|Mul|Add|Pow|FloorDiv|CeilDiv|Mod|PythonMod|Max|Min|positive|nonnegative|integer|True)\b"
    r"|'[su]\d+'|\b[su]\d+\b|-?\b\d+\b|[(),= +*-])*",
    re.ASCII,
)


def without_pickles(source: IO[bytes]) -> bytes:
    """The archive of `torch.export.save` without its pickled sample inputs and its notes of the exporter's code."""
    with zipfile.ZipFile(source) as archive:
        content = _content(archive)
    content[SAMPLES] = b""
    program = json.loads(content[PROGRAM])
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    content[PROGRAM] = json.dumps(program).encode()
    return _packed(content).getvalue()


def checked_archive(path: Path) -> io.BytesIO:
    """The archive at ``path``, rewritten from its checked parts, for `torch.export.load`."""
    with zipfile.ZipFile(path) as archive:
        content = _content(archive)
    for trouble in _troubles(content):
        raise SaganError(f"{path} holds {trouble}; none of it was executed, export the model again")
    for name in (PROGRAM, *CONFIGS):  # as Python's parser read it
        content[name] = json.dumps(json.loads(content[name])).encode()
    return _packed(content)


def _content(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """All entries by their names, without their common folder."""
    names = archive.namelist()
    folder = names[0].split("/")[0] + "/"
    if len(set(names)) < len(names) or not all(name.startswith(folder) for name in names):
        raise ValueError("its entries are not in one folder, each of them once")
    return {name.removeprefix(folder): archive.read(name) for name in names}


def _packed(content: dict[str, bytes]) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), data)
    packed.seek(0)
    return packed


def _troubles(content: dict[str, bytes]) -> Iterator[str]:
    """Everything that could be or load code, each in a few words."""
    for name, data in content.items():
        if name == SAMPLES and data:
            yield f"a pickle, {SAMPLES}"
        elif name not in (SAMPLES, PROGRAM, *CONFIGS) and not ENTRY.fullmatch(name):
            yield f"an entry of another kind, {name[:100]!r}"
    for name in CONFIGS:
        for tensor in json.loads(content[name])["config"].values():
            if tensor["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", tensor["path_name"]):
                yield f"a pickle, {str(tensor['path_name'])[:100]!r}"
    program = json.loads(content[PROGRAM])
    if program["guards_code"]:
        yield "Python code, guards_code"
    for node in program["graph_module"]["graph"]["nodes"]:
        if not OPERATOR.fullmatch(node["target"]):
            yield f"an unexpected operator, {node['target'][:100]!r}"
    for key, text in _texts(program):
        if not _harmless(key, text):
            yield f"a text that could be code, {text[:100]!r}"


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a JSON value, keys included, with the key above it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield "", name
            yield from _texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _harmless(key: str, text: str) -> bool:
    if key == "expr_str":
        return FORMULA.fullmatch(text) is not None
    if key in ("in_spec", "out_spec"):
        return all(
            TEXT.fullmatch(part) and (name != "type" or part in ("builtins.tuple", "builtins.list", "builtins.dict"))
            for name, part in _texts(json.loads(text))
            if (name, part) != ("context", "[]")
        )
    return text in WORDS if key == "as_string" else TEXT.fullmatch(text) is not None
