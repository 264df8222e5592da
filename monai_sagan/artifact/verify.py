"""The complete check of an artifact, and its table."""

from __future__ import annotations

import time
from pathlib import Path

from monai_sagan.artifact.opening import open_artifact
from monai_sagan.artifact.self_test import Case, check_self_test
from monai_sagan.metrics.conformal import TOLERANCE
from monai_sagan.models.facts import SELF_TEST, Facts


def verify_artifact(path: str | Path, threads: int | None = None) -> str:
    """Check an artifact's hashes and version, run its complete self-test, and return a table of the results."""
    begin = time.perf_counter()
    artifact = open_artifact(path, check=False, threads=threads)
    seconds = time.perf_counter() - begin
    results = check_self_test(artifact.run, artifact.folder / SELF_TEST)
    return "\n".join([*_about(artifact.facts, artifact.folder), f"loaded in {seconds:.2f} s", "", *_table(results)])


def _about(facts: Facts, folder: Path) -> list[str]:
    model = facts["model"]
    height, width = model["image_size"]
    lines = [
        f"{facts['name']}: {facts['format']}, format version {facts['format_version']}, "
        f"by monai-sagan {facts['monai_sagan_version']}; license: {facts['license']}",
        f"sees {height} x {width} x {model['in_channels']}; {model['iteration']} iterations; "
        f"{model['n_valid_normal']} validation normals",
        "SHA-256 as exported:",
    ]
    size = {name: (folder / name).stat().st_size for name in facts["files"]}
    return lines + [f"  {name:<18} {size[name]:>12,} bytes  {found[:16]}..." for name, found in facts["files"].items()]


def _table(results: list[tuple[Case, float]]) -> list[str]:
    lines = ["self-test: height x width, bits, score, difference"]
    for number, (case, found) in enumerate(results, 1):
        size = f"{case.image.shape[1]} x {case.image.shape[2]}"
        lines.append(f"  {number:>2}  {size:>11}  {case.bits:>2}  {found:.7f}  {found - case.score:+.1e}")
    worst = max(abs(found - case.score) for case, found in results)
    return [*lines, f"all {len(results)} scores within {TOLERANCE:g} (largest {worst:.1e}), their order kept"]
