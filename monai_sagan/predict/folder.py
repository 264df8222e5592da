"""Score a folder of images, for both ``monai-sagan predict`` and ``inference.json``; does not need torch.

The caller runs the model on batches of pixels and returns scores and anomaly maps. This module lists and decodes the
images, writes the results, resumes interrupted calls and reports errors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from monai_sagan import run_files
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.data.formats.tasks import DecodedImage, LeftOut, Result, Unreadable
from monai_sagan.data.unreadable import check_unreadable
from monai_sagan.errors import SaganError
from monai_sagan.pictures.overlay import SIDE
from monai_sagan.predict.decoding import decode_all
from monai_sagan.predict.journal import Entry, Row
from monai_sagan.predict.listing import list_folder
from monai_sagan.predict.output import begin, check_output, one_line_for_disk_errors
from monai_sagan.predict.overlays import write_overlay
from monai_sagan.predict.results import Results, file_state, overlay_name, wants_overlay
from monai_sagan.predict.rules import ModelFacts, ScoreRules
from monai_sagan.predict.summary import Summary, summarize
from monai_sagan.records import write_records

BATCH = 16  # images at a time; the first batches are smaller, for early results
CHOICES = ("all", "flagged", "none")

Decoded = tuple[str, Sequence[Result]]  # a file, and its images


class FolderScorer:
    """Score every image below a folder that has no results yet; write ``scores.csv``, ``skipped.csv``, ``overlays/``.

    All formats of `monai_sagan.data.formats` are decoded as in training: every frame of a DICOM or picture file, and
    every slice of a NIfTI volume. Files that are broken or crash their decoder and images with a non-finite score are
    listed in ``skipped.csv``. The same call resumes an interrupted one, and scores new and changed files; results of
    files that were removed are kept. Pixels and results are streamed.

    A row of ``scores.csv``: ``image``; ``score``; ``p_value`` among validation normals; ``flag``, 1 above the
    threshold for a specificity of 95 % on validation normals, else 0, empty without a threshold and with a warning;
    ``warning``, where the image is outside the training range; ``overlay``, its picture's name; ``status``,
    ``present``, or ``gone`` where its file has left the folder.

    Args:
        folder: of the images, sub-folders included. It may be empty.
        output: a folder that is new, empty, or holds the results of the same folder and model. It may lie inside
            ``folder``: overlays in it are not scored.
        model: facts about the model.
        batch_size: images at a time.
        slice_axis: of NIfTI volumes, 0, 1 or 2, see `monai_sagan.data.datasets.folder`.
        slice_range: the part of a volume that is scored, two rising shares from 0 to 1.
        overlays: images to draw overlays for: ``"all"``, ``"flagged"``, which includes those with a warning, or
            ``"none"``.
        max_unreadable: share of unreadable images, 0 to 1, above which there is an error once all are scored.
        jobs: decoding processes at a time; None takes one for each core.

    Raises:
        SaganError: for an unusable folder or option.

    A model that is any callable scores a folder like this::

        scorer = FolderScorer(folder, output, facts)
        with closing(scorer.batches()) as batches:
            for pixels in batches:
                scorer.keep(*model(pixels))
        print(scorer.summary())
    """

    def __init__(
        self,
        folder: str | Path,
        output: str | Path,
        model: ModelFacts,
        batch_size: int = BATCH,
        slice_axis: int = 2,
        slice_range: Sequence[float] = (0.0, 1.0),
        overlays: str = "all",
        max_unreadable: float = 1.0,
        jobs: int | None = None,
    ) -> None:
        self.folder, self.output, self.model = Path(folder), Path(output), model
        self.batch_size, self.overlays, self.max_unreadable, self.jobs = batch_size, overlays, max_unreadable, jobs
        axis, keep = check_slices(slice_axis, slice_range)
        check_unreadable({}, 0, max_unreadable)
        if overlays not in CHOICES:
            raise SaganError(f"overlays is {overlays!r}; use one of {', '.join(CHOICES)}")
        if not self.folder.is_dir():
            raise SaganError(f"no folder {folder}; give the folder of the images")
        self.rules = ScoreRules(model.valid_normal_scores, model.training_range)
        self.recipe = {**model.identity, "folder": str(self.folder.resolve())}
        with one_line_for_disk_errors(self.output):
            check_output(self.output, self.recipe)
        self._files, self._others = list_folder(self.folder, self.output / run_files.OVERLAYS, axis, keep)
        self._states: dict[str, list[int]] = {}  # of files that are being decoded
        self._given: list[tuple[Row, DecodedImage]] = []
        self._drawn: list[Future[None]] = []
        self._results: Results
        self._pool: ThreadPoolExecutor

    @property
    def needs_maps(self) -> bool:
        """Whether any overlay may be drawn."""
        return self.overlays != "none"

    def batches(self) -> Generator[Pixels, None, None]:
        """Yield uint8 (B, C, H, W), as the network sees them; answer each by `keep` before taking the next.

        The tables are complete when the batches end, and when the generator is closed before that.
        """
        with one_line_for_disk_errors(self.output):
            begin(self.output, self.recipe)
            write_records(self.output)
            with Results(self.folder, self.output, self._files, self.overlays) as self._results:
                yield from self._score_rest()

    def keep(self, scores: Sequence[float] | Pixels, anomaly_maps: Pixels | None) -> None:
        """Take the results of the last batch.

        Args:
            scores: (B,).
            anomaly_maps: (B, 1, h, w); None where `needs_maps` is false.
        """
        given, self._given = self._given, []
        found = self.rules.rows(scores, _stack(given))
        for i, (row, image) in enumerate(given):
            if not math.isfinite(found[i]["score"]):
                path = self._results.path(row["image"])
                row |= {"reason": f"{path} has the score {found[i]['score']}; the model may be broken", "again": True}
                continue
            row |= found[i] | {"overlay": ""}
            if anomaly_maps is not None and image.picture is not None and wants_overlay(row, self.overlays):
                self._draw(row, image.picture, anomaly_maps[i, 0])

    def summary(self) -> Summary:
        """Count the results once the batches have ended, and log what is unusual.

        Raises:
            SaganError: when there are images and none was ever scored, or too many are unreadable.
        """
        return summarize(self._results, self.rules.threshold, self.max_unreadable, self._others)

    def _score_rest(self) -> Generator[Pixels, None, None]:
        """Yield batches of images without results, and add their results to the tables."""
        results = self._results
        rest = [file for file in results.files if file not in results.done]
        decoded = decode_all(self._paths(rest), self.model.how, SIDE if self.needs_maps else 0, self.jobs)
        total, done = (sum(len(results.files[file]) for file in files) for files in (results.files, results.done))
        bar = tqdm(total=total, initial=done, unit="image", disable=None)
        with bar, closing(decoded), ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as self._pool:
            for group in _groups(zip(rest, decoded, strict=True), self.batch_size):
                entries, images = self._sort(group)
                for start in range(0, len(images), self.batch_size):
                    self._given = images[start : start + self.batch_size]
                    yield _stack(self._given)
                    assert not self._given, "answer each batch by keep()"
                while self._drawn:
                    self._drawn.pop().result()
                results.add(entries)
                bar.update(sum(len(results.files[entry["file"]]) for entry in entries))

    def _paths(self, files: Sequence[str]) -> Iterator[list[str]]:
        """The names of the images of each file; notes the state in which the file is decoded."""
        for file in files:
            self._states[file] = file_state(self._results.path(file))
            yield [self._results.path(name) for name in self._results.files[file]]

    def _sort(self, group: Sequence[Decoded]) -> tuple[list[Entry], list[tuple[Row, DecodedImage]]]:
        """The entries of some files, and the images among them that have no score yet, with their rows."""
        entries: list[Entry] = []
        images: list[tuple[Row, DecodedImage]] = []
        for file, found in group:
            entries.append({"file": file, "state": self._states.pop(file), "rows": []})
            for result in found:
                row: Row = {"image": Path(result.image).relative_to(self.folder).as_posix()}
                entries[-1]["rows"].append(row)
                if isinstance(result, DecodedImage):
                    images.append((row, result))
                else:
                    row |= _skipped(result)
        return entries, images

    def _draw(self, row: Row, picture: Pixels, anomaly_map: Pixels) -> None:
        row["overlay"] = overlay_name(row["image"])
        path = self.output / run_files.OVERLAYS / row["overlay"]
        values = (path, picture, anomaly_map, row, self.model.colors, self.rules.threshold)
        self._drawn.append(self._pool.submit(write_overlay, *values))


def _stack(images: Sequence[tuple[Row, DecodedImage]]) -> Pixels:
    return np.stack([image.pixels for _, image in images if image.pixels is not None])


def _skipped(result: Unreadable | LeftOut) -> Row:
    """Why an image has no score."""
    if isinstance(result, Unreadable):  # a decoder may be installed before the next call
        return {"reason": result.reason, "again": True}
    return {"reason": f"{result.image} has {result.reason}"}


def _groups(decoded: Iterator[Decoded], most: int) -> Iterator[list[Decoded]]:
    """Files whose images are scored together; no file is divided."""
    group: list[Decoded] = []
    size = 1
    for file, found in decoded:
        group.append((file, found))
        if sum(len(found) for _, found in group) >= size:
            yield group
            group, size = [], min(2 * size, most)
    if group:
        yield group
