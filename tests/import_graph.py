"""Which files and folders of the package import which: ``python tests/import_graph.py`` prints the folders' graph.

Imports within functions count, those under ``if TYPE_CHECKING`` do not. A file at the top of the package is a folder of
its own here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "monai_sagan"

Graph = Mapping[str, set[str]]


def file_graph(package: Path = PACKAGE) -> dict[str, set[str]]:
    """For each file, by its path in the package, the files that it imports."""
    files = {_module(path, package): path.relative_to(package).as_posix() for path in sorted(package.rglob("*.py"))}
    graph = {}
    for path in files.values():
        names = _imported(ast.parse((package / path).read_text(encoding="utf-8")))
        found = (next((files[name] for name in candidates if name in files), None) for candidates in names)
        graph[path] = {target for target in found if target is not None} - {path}
    return graph


def folder_graph(files: Graph) -> dict[str, set[str]]:
    """For each folder the folders that its files import."""
    graph: dict[str, set[str]] = {}
    for path, targets in files.items():
        graph.setdefault(_folder(path), set()).update(map(_folder, targets))
    return {folder: targets - {folder} for folder, targets in graph.items()}


def cycles(graph: Graph) -> list[str]:
    """The shortest cycle through each import that is part of one, as ``a > b > a``, each cycle once."""
    paths = {_path(graph, target, node) for node, targets in graph.items() for target in targets} - {()}
    return sorted({" > ".join([*path, path[0]]) for path in map(_from_the_first, paths)})


def as_text(graph: Graph) -> str:
    """A line for each node and what it imports; all of that stands above it, cycles apart."""
    below = {node: sum(bool(_path(graph, node, other)) for other in graph) for node in graph}
    width = max(map(len, graph))
    nodes = sorted(graph, key=lambda node: (below[node], node))
    return "\n".join(f"{node:{width}}  {' '.join(sorted(graph[node]))}".rstrip() for node in nodes)


def _module(path: Path, package: Path) -> str:
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """What each import names; of ``from a import b`` it may be the module ``a.b``, or a name in ``a``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import, of {node.module}: write the full name"
            yield from ((f"{node.module}.{alias.name}", str(node.module)) for alias in node.names)
        yield from _imported(node)


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or path


def _path(graph: Graph, start: str, end: str) -> tuple[str, ...]:
    """The nodes of the shortest path; () where there is none."""
    paths, seen = [(start,)], {start}
    for path in paths:
        if path[-1] == end:
            return path
        further = sorted(graph[path[-1]] - seen)
        seen.update(further)
        paths += [(*path, node) for node in further]
    return ()


def _from_the_first(cycle: tuple[str, ...]) -> tuple[str, ...]:
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


if __name__ == "__main__":
    print(as_text(folder_graph(file_graph())))
