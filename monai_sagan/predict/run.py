"""A folder of images in, scores and overlays out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from monai_sagan.data.datasets.unread import warn_of_unread
from monai_sagan.data.formats.scaling import Pixels
from monai_sagan.data.formats.slices import check_slices
from monai_sagan.data.formats.tasks import DecodedImage, HowToDecode, Result, Unreadable
from monai_sagan.data.training_range import typical_from_json
from monai_sagan.errors import SaganError
from monai_sagan.files import write_whole
from monai_sagan.output_folder import hold_folder
from monai_sagan.pictures.overlay import SIDE, Colors, draw_overlay
from monai_sagan.predict.decoding import decode_all
from monai_sagan.predict.folder import ScoreRules, list_folder, skip_reason
from monai_sagan.predict.results import (
    OVERLAYS,
    Entry,
    Results,
    Row,
    begin,
    check_output,
    overlay_name,
    wants_overlay,
)
from monai_sagan.predict.summary import Summary, summarize

if TYPE_CHECKING:
    from monai_sagan.artifact import Artifact

__all__ = ["predict"]

BATCH = 16  # images at a time; the first batches are smaller, so that the first results come soon
CHOICES = ("all", "flagged", "none")

Found = Sequence[Result]  # the images of a file


def predict(
    artifact: str | Path,
    folder: str | Path,
    output: str | Path,
    slice_axis: int = 2,
    slice_range: Sequence[float] = (0.0, 1.0),
    overlays: str = "all",
    jobs: int | None = None,
) -> Summary:
    """Score every image below ``folder`` by an exported model; write ``scores.csv``, ``skipped.csv`` and ``overlays/``.

    Images of any size and format that `monai_sagan.data.formats` knows are decoded as in training, every frame of a
    DICOM or picture file and every slice of a NIfTI volume. A file that is broken, or that ends its decoder, is listed
    in ``skipped.csv``. The same call goes on where it was stopped, and scores what was added or changed; the results
    of files that have left the folder stay.

    A row of ``scores.csv``: ``image``; ``score``; ``p_value`` among validation normals; ``flag``, 1 above the
    threshold for a specificity of 95 % on validation normals, else 0, empty without one and with a warning;
    ``warning``, where the image is unlike the training images; ``overlay``, its picture's name; ``status``,
    ``present``, or ``gone`` where its file has left the folder.

    Args:
        artifact: the folder of an exported model.
        folder: of the images; its sub-folders count too. It may be empty.
        output: a folder that is new, empty, or was begun by the same call.
        slice_axis: of NIfTI volumes, 0, 1 or 2, see `monai_sagan.data.datasets.folder`.
        slice_range: the part of a volume that is scored, two rising shares from 0 to 1.
        overlays: of which images to draw overlays: ``"all"``, ``"flagged"``, which includes those unlike the training
            images, or ``"none"``.
        jobs: decoding processes at a time; None takes one for each core.

    Raises:
        SaganError: for an artifact, a folder or an option that cannot be used; when no image is readable; when the
            output cannot be written to, is in use, or holds anything else.
    """
    folder, output = Path(folder), Path(output)
    axis, keep = check_slices(slice_axis, slice_range)
    if overlays not in CHOICES:
        raise SaganError(f"overlays is {overlays!r}; use one of {', '.join(CHOICES)}")
    if not folder.is_dir():
        raise SaganError(f"no folder {folder}; give the folder of the images")
    from monai_sagan.artifact import open_artifact

    model = open_artifact(artifact)
    files = _list(folder, output, axis, keep)
    recipe = {"artifact": model.facts["sha256"], "folder": str(folder.resolve())}
    try:
        check_output(output, recipe)
        with hold_folder(output, "prediction"):
            begin(output, recipe)
            with Results(folder, output, files, overlays) as results:
                scorer = _Scorer(model, results)
                _score_the_rest(scorer, results, jobs)
            return summarize(results, scorer.rules.threshold)
    except OSError as error:
        raise SaganError(
            f"cannot write to {output} ({error.strerror or error}); make room or name another folder, then go on"
        ) from None


def _list(folder: Path, output: Path, axis: int, keep: tuple[float, float]) -> dict[str, list[str]]:
    """The files of images below a folder with the names of their images, all relative to the folder."""
    found = list_folder(folder, output, axis, keep)
    warn_of_unread(folder, [path for path, names in found.items() if not names])
    return {
        path.relative_to(folder).as_posix(): [Path(name).relative_to(folder).as_posix() for name in names]
        for path, names in found.items()
        if names
    }


def _score_the_rest(scorer: _Scorer, results: Results, jobs: int | None) -> None:
    """Score what earlier calls have not."""
    rest = [file for file in results.files if file not in results.done]
    decoded = decode_all(
        [[results.path(name) for name in results.files[file]] for file in rest],
        _how(scorer.model.facts["model"]["settings"]),
        0 if results.overlays == "none" else SIDE,
        jobs,
    )
    total = sum(map(len, results.files.values()))
    bar = tqdm(total=total, initial=sum(len(results.files[file]) for file in results.done), unit="image", disable=None)
    with bar, closing(decoded), ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        for group in _groups(zip(rest, decoded, strict=True)):
            results.add(scorer.entries(group, pool))
            bar.update(sum(len(results.files[file]) for file, _ in group))


def _groups(decoded: Iterator[tuple[str, Found]]) -> Iterator[list[tuple[str, Found]]]:
    """Files whose images are scored together; no file is divided."""
    group: list[tuple[str, Found]] = []
    size = 1
    for file, found in decoded:
        group.append((file, found))
        if sum(len(found) for _, found in group) >= size:
            yield group
            group, size = [], min(2 * size, BATCH)
    if group:
        yield group


def _how(settings: dict[str, Any]) -> HowToDecode:
    height, width = settings["image_size"]
    return HowToDecode((height, width), settings["in_channels"], settings["preparation"], settings["min_foreground"])


class _Scorer:
    """Scores of decoded images, and their overlays."""

    def __init__(self, model: Artifact, results: Results) -> None:
        self.model, self.results = model, results
        facts = model.facts
        self.colors = Colors(facts["model"]["scale"], facts["model"]["pixel_threshold"])
        # Not the stored threshold and the graph's p-values: in older artifacts rounding decides where scores are equal.
        self.rules = ScoreRules(facts["model"]["valid_normal_scores"], typical_from_json(facts.get("typical")))

    def entries(self, group: Sequence[tuple[str, Found]], pool: ThreadPoolExecutor) -> list[Entry]:
        """What is to be kept of some files; the overlays are drawn."""
        entries: list[Entry] = []
        images: list[tuple[Row, DecodedImage]] = []
        for file, found in group:
            entries.append({"file": file, "state": self.results.states[file], "rows": []})
            for result in found:
                row: Row = {"image": Path(result.image).relative_to(self.results.folder).as_posix()}
                entries[-1]["rows"].append(row)
                if isinstance(result, DecodedImage):
                    images.append((row, result))
                    continue
                row["reason"] = skip_reason(result)
                if isinstance(result, Unreadable):  # a decoder may be installed until the next call
                    row["again"] = True
        drawn = [future for i in range(0, len(images), BATCH) for future in self._score(images[i : i + BATCH], pool)]
        for future in drawn:
            future.result()
        return entries

    def _score(self, images: Sequence[tuple[Row, DecodedImage]], pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Fill in the rows of a batch; what is being drawn meanwhile."""
        pixels = np.stack([image.pixels for _, image in images if image.pixels is not None])
        outputs = self.model.run(pixels.astype(np.int32), 8)
        found = self.rules.rows(outputs["score"], pixels)
        drawn = []
        for i, (row, image) in enumerate(images):
            score = float(outputs["score"][i])
            if not math.isfinite(score):
                row |= {"reason": f"{self.results.path(row['image'])} has the score {score}", "again": True}
                continue
            row |= found[i]
            picture = image.picture if wants_overlay(row, self.results.overlays) else None
            row["overlay"] = "" if picture is None else overlay_name(row["image"])
            if picture is not None:
                drawn.append(pool.submit(self._draw, row, picture, outputs["anomaly_map"][i, 0]))
        return drawn

    def _draw(self, row: Row, picture: Pixels, anomaly_map: Pixels) -> None:
        drawing = draw_overlay(picture, anomaly_map, self.colors, row["image"], self._words(row))
        path = self.results.output / OVERLAYS / row["overlay"]
        # Level 1: higher ones take longer than the network and save little of a picture as noisy as a radiograph.
        write_whole(path, lambda unfinished: drawing.save(unfinished, "PNG", compress_level=1))

    def _words(self, row: Row) -> list[tuple[str, bool]]:
        threshold = self.rules.threshold
        if threshold is None:
            verdict = "no threshold, for there were too few normal images"
        elif row["warning"]:
            verdict = "not compared with the threshold"
        else:
            above = "above" if row["flag"] else "not above"
            verdict = f"{above} {threshold:.4f}, the threshold for a specificity of 95 %"
        words = [(f"score {row['score']:.4f}, p = {row['p_value']:.3g}; {verdict}", bool(row["flag"]))]
        return words + [(f"warning: {line}", True) for line in row["warning"].split("; ") if line]
