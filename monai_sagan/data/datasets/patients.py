"""The patients that DICOM headers name, where a dataset's tables do not."""

from __future__ import annotations

from collections.abc import Sequence

from monai_sagan.data.formats.decode import describe_file
from monai_sagan.data.formats.workers import Failure, run_in_workers
from monai_sagan.errors import SaganError

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
    if not any(_patients(list(images[::step]))):
        return {}
    parts = [list(images[start : start + AT_A_TIME]) for start in range(0, len(images), AT_A_TIME)]
    found: dict[str, str] = {}
    for part, patients in zip(parts, run_in_workers(_patients, parts, jobs), strict=True):
        if isinstance(patients, Failure):  # whoever decodes these files says what is wrong
            continue
        found |= {image: patient for image, patient in zip(part, patients, strict=True) if patient}
    return found


def _patients(images: list[str]) -> list[str | None]:
    """What a worker does."""
    described = [next(describe_file([image])) for image in images]
    return [None if isinstance(found, SaganError) else found.get("patient") for found in described]
