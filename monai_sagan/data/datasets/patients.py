"""The patients that DICOM headers name, where a dataset's tables do not."""

from __future__ import annotations

from collections.abc import Sequence

from monai_sagan.data.formats.tasks import DecodedImage, DecodeTask, Result, run_task, run_tasks

__all__ = ["patients_of_headers"]

LOOKED_AT = 8  # headers that decide whether to read them all
AT_A_TIME = 64  # headers, for one worker


def patients_of_headers(images: Sequence[str], jobs: int | None = None) -> dict[str, str]:
    """The patient, as a hash, of each image whose header names one; none where a few headers name nobody.

    Published sets have no patients in their headers, and reading them all would take its time at each start.

    Args:
        images: paths of DICOM files.
        jobs: processes at a time; None takes one for each core.
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
    """The patients by the image; files that are unreadable are reported when they are decoded."""
    described = {result.image: result.description for result in results if isinstance(result, DecodedImage)}
    return {image: found["patient"] for image, found in described.items() if found.get("patient")}
