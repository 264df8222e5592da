"""Every public name is documented: by rules that are mechanical, so that a new name is covered the moment it is there.

Public are the names in the ``__all__`` of every module whose own path has no underscore, and in the classes among them
the methods and properties without one. What a class takes over from torch, ignite, MONAI or Python is documented there.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

import monai_sagan

# Annotations of what has a shape.
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|NdarrayOrTensor|MetaTensor|Values|Array)\b")
# "(B, C, H, W)", "(N,)", "(..., 1, H, W)", "(C + bits, H, W)", or the words for what has no side.
SHAPE = re.compile(r"\((?:[\w.*/+ -]+,)+[\w.*/+ -]*\)|\bscalar\b|\bone number\b|\bof any shape\b|\bsame shape\b")
# Arguments that hold images, and how the range of their values may be said.
IMAGES = {"image", "images", "pixels", "restored", "source", "normal", "unlabeled", "pseudo", "anomaly_map", "maps"}
RANGE = re.compile(
    r"[\[(]-?\d[\d.]*, ?-?\d[\d.]*[\])]|\b0\.\.255|\b0 to (255|1)\b|\bany range\b|\bu?int(8|16|32)\b|\bbool\b"
)


@cache
def modules() -> list[ModuleType]:
    found = [info.name for info in pkgutil.walk_packages(monai_sagan.__path__, "monai_sagan.")]
    names = [name for name in found if not any(part.startswith("_") for part in name.split("."))]
    return [monai_sagan, *map(importlib.import_module, names)]


def own(thing: Any) -> bool:
    return getattr(thing, "__module__", "").startswith("monai_sagan")


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that the class adds to what its foreign bases promise."""
    promised = {name for base in cls.__mro__ if not own(base) for name in vars(base)}
    for name, value in vars(cls).items():
        if name.startswith("_") or name in promised:
            continue
        if isinstance(value, classmethod | staticmethod):
            value = value.__func__
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, FunctionType):
            yield name, value


@cache
def documented() -> dict[str, Any]:
    """Every public function, class and method by its dotted name, each once, where it is at home."""
    found: dict[str, Any] = {}
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not inspect.isroutine(thing) and not inspect.isclass(thing):
                continue  # a constant or a type
            assert own(thing), f"{module.__name__} passes {name} of {thing.__module__} off as its own"
            home = f"{thing.__module__}.{thing.__qualname__}"
            found[home] = thing
            if inspect.isclass(thing):
                found |= {f"{home}.{method}": value for method, value in members(thing)}
    return found


def doc_of(thing: Any) -> str:
    return inspect.cleandoc(vars(thing).get("__doc__") or "") if inspect.isclass(thing) else inspect.getdoc(thing) or ""


def entry_points(thing: Any) -> list[FunctionType]:
    """What runs when the name is used: of a class, its constructor and its call."""
    if not inspect.isclass(thing):
        return [inspect.unwrap(thing)]
    names = ("__init__", "__post_init__", "__call__", "forward")
    if dataclasses.is_dataclass(thing):
        names = names[1:]  # the constructor is not written by hand
    found = [vars(thing).get(name) for name in names]
    return [value for value in found if isinstance(value, FunctionType)]


def parameters(thing: Any) -> dict[str, str]:
    """Names and annotations of the arguments; of a class those of its constructor, or its fields."""
    if dataclasses.is_dataclass(thing):
        fields = [field for field in dataclasses.fields(thing) if not field.name.startswith("_")]
        return {field.name: str(field.type) for field in fields if "help" not in field.metadata}  # options
    if inspect.isclass(thing) and issubclass(thing, tuple) and hasattr(thing, "_fields"):
        return {name: str(thing.__annotations__[name]) for name in thing._fields}
    functions = [f for f in entry_points(thing) if not inspect.isclass(thing) or f.__name__ == "__init__"]
    return {
        name: str(parameter.annotation)
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and name != "cls" and not name.startswith("_")
    }


def annotations(thing: Any) -> str:
    """All that the signatures say, results included."""
    texts = list(parameters(thing).values())
    for function in entry_points(thing):
        texts += map(str, function.__annotations__.values())
    return " ".join(texts)


def raised(thing: Any) -> set[str]:
    """Names of the exceptions that its own source raises by name, functions within functions left out."""
    names: set[str] = set()
    for function in entry_points(thing):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        (definition,) = tree.body
        pending: list[ast.AST] = list(ast.iter_child_nodes(definition))
        while pending:
            node = pending.pop()
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.Raise) and node.exc is not None:
                called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if isinstance(called, ast.Name) and called.id[:1].isupper():
                    names.add(called.id)
            pending += ast.iter_child_nodes(node)
    return names - {"NotImplementedError", "AttributeError", "SystemExit", "KeyboardInterrupt"}


def is_described(argument: str, text: str) -> bool:
    """By name: under ``Args:``, or in the sentences before; where there are such lists, those need the code's marks."""
    before, has_list, listed = text.partition("Args:\n")
    if re.search(rf"^    {argument}: \S", listed, re.MULTILINE):
        return True
    return bool(re.search(rf"`\**{argument}\b" if has_list else rf"\b{argument}\b", before))


def shortcomings(name: str, thing: Any) -> Iterator[str]:
    """What the docstring of a name owes, a line each."""
    text = doc_of(thing)
    if not text:
        yield f"{name} has no docstring"
        return
    first = text.partition("\n")[0]
    if not re.fullmatch(r"[^a-z\s].*\.", first) or re.search(r"(?<!Eq)(?<!Sec)\. [A-Z]", first):
        yield f"{name}: the first line is not one sentence: {first!r}"
    arguments = parameters(thing)
    for argument in arguments:
        if not is_described(argument, text):
            yield f"{name}: the argument {argument} is not described"
    for exception in sorted(raised(thing)):
        if not re.search(rf"^Raises:\n(    .*\n|\n)*?    [\w, ]*\b{exception}\b[\w, ]*: \S", text, re.MULTILINE):
            yield f"{name}: raises {exception}, and no line under Raises: says when"
    if ARRAYS.search(annotations(thing)) and not SHAPE.search(text):
        yield f"{name}: takes or returns arrays, and says no shape"
    images = [argument for argument, kind in arguments.items() if argument in IMAGES and ARRAYS.search(kind)]
    if images and not RANGE.search(text):
        yield f"{name}: takes images ({', '.join(images)}), and says no range of their values"


def test_every_module_says_what_it_is_for():
    lacking = [module.__name__ for module in modules() if not (module.__doc__ or "").strip()]
    assert not lacking, f"without a docstring: {', '.join(lacking)}"


def test_every_public_name_is_documented():
    found = [line for name, thing in sorted(documented().items()) for line in shortcomings(name, thing)]
    assert not found, "\n".join(["", *found])


def test_every_name_of_the_package_is_there():
    assert set(monai_sagan.__all__) <= {*vars(monai_sagan), *monai_sagan._HOME}
    for name in monai_sagan.__all__:
        thing = getattr(monai_sagan, name)
        assert inspect.getmodule(thing) is None or own(thing)
    with pytest.raises(AttributeError, match="has no attribute 'SaganGenerater'"):
        monai_sagan.SaganGenerater  # noqa: B018


class Wrong(dict):  # what the rules must find; dict, for it documents its own methods
    """Does this. And that, to images (H, W)."""

    def __init__(self, image: np.ndarray, strength: float) -> None:
        if strength < 0:
            raise ValueError("strength is negative")

    def run(self) -> None: ...

    def keys(self) -> Any: ...


def test_the_rules_find_what_they_are_for():
    assert [re.sub(".*Wrong: ", "", line) for line in shortcomings("Wrong", Wrong)] == [
        "the first line is not one sentence: 'Does this. And that, to images (H, W).'",
        "the argument image is not described",
        "the argument strength is not described",
        "raises ValueError, and no line under Raises: says when",
        "takes images (image), and says no range of their values",
    ]
