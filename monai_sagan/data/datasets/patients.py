"""The patients that DICOM headers name, where a dataset's tables do not."""

from __future__ import annotations

from collections.abc import Sequence

from monai_sagan.data.formats.tasks import DecodedImage, DecodeTask, Result, run_task, run_tasks

__all__: list[str] = []

LOOKED_AT = 8  # headers that decide whether to read them all
AT_A_TIME = 64  # headers, for one worker


def patients_of_headers(images: Sequence[str], jobs: int | None = None) -> dict[str, str]:
    """The patient, as a hash, of each DICOM file whose header names one; {} where the first few name nobody.

    Published sets have no patients in their headers, and reading them all takes time at each start.
    """
    step = -(-len(images) // LOOKED_AT) or 1
    if not any(_patients(run_task(_task(images[::step])))):
        return {}
    tasks = [_task(images[start : start + AT_A_TIME]) for start in range(0, len(images), AT_A_TIME)]
    found: dict[str, str] = {}
    for results in run_tasks(tasks, jobs):
        found |= _patients(results)
    return found


def _task(images: Sequence[str]) -> DecodeTask:
    return DecodeTask(list(images), headers_only=True)


def _patients(results: Sequence[Result]) -> dict[str, str]:
    """The patients by image; unreadable files are reported when they are decoded."""
    described = {result.image: result.description for result in results if isinstance(result, DecodedImage)}
    return {image: found["patient"] for image, found in described.items() if found.get("patient")}
