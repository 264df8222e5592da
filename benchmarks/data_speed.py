"""Preparing a dataset against a plain loop of pydicom and Pillow; its memory; and how soon a second training starts.

    python benchmarks/data_speed.py [--images 300] [--rounds 3] [--many 15000]

All images are generated: 1024 x 1024 phantoms as DICOM with JPEG pixels, as RSNA ships them, and small PNG files where
only their number counts. Loop and `prepare` take turns; the ratio is the median over rounds, with its range.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid
from tqdm import tqdm

from monai_sagan.data.datasets.phantom import phantom_image

JOBS = 2
SIZE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=15_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dicoms(folder / "dicom", args.images)
        ratios = []
        for number in range(args.rounds):
            plain = timed(plain_loop, folder / "dicom", folder / f"plain{number}")
            ours, memory = run(["prepare", str(folder / "dicom"), str(folder / f"ours{number}"), "--jobs", str(JOBS)])
            ratios.append(plain / ours)
            print(f"round {number}: loop {args.images / plain:.1f} images/s, prepare {args.images / ours:.1f} images/s")
        print(f"prepare is {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast, "
              f"{JOBS} processes, start included; peak memory of all processes {memory / 2**20:.0f} MiB")  # fmt: skip
        write_pngs(folder / "many", args.many)
        seconds, memory = run(["prepare", str(folder / "many"), str(folder / "few"), "--image_size", "64"])
        print(f"{args.many} small images prepared in {seconds:.0f} s, peak memory {memory / 2**20:.0f} MiB")
        for name in ("first", "second"):
            print(f"{name} start on {args.many} images: {start(folder / 'few', folder / 'cache', folder / name)}")


def write_dicoms(folder: Path, count: int) -> None:
    pictures = [Image.fromarray(phantom_image(0, i, False, 256)[0]).resize((1024, 1024)) for i in range(20)]
    rng = np.random.default_rng(0)
    parts = ["normal"] * (count // 2) + ["unlabeled"] * (count - count // 2)
    for i, part in enumerate(tqdm(parts, "writing DICOM")):
        noisy = np.asarray(pictures[i % 20], np.float32) + rng.normal(0, 4, (1024, 1024)).astype(np.float32)
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        dataset = pydicom.Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.Rows = dataset.Columns = 1024
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.SamplesPerPixel, dataset.PixelRepresentation = 7, 1, 0
        dataset.PhotometricInterpretation, dataset.PatientID = "MONOCHROME2", str(i)
        dataset.PixelData = encapsulate([stream.getvalue()])
        (folder / part).mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / part / f"{i}.dcm", enforce_file_format=True)


def write_pngs(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for part in ("normal", "unlabeled", "test/normal", "test/abnormal"):
        (folder / part).mkdir(parents=True)
        for i in tqdm(range(count // 4), f"writing {part}"):
            Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(folder / part / f"{i}.png", compress_level=1)


def plain_loop(source: Path, target: Path) -> None:
    """What the published sets were made with: one file after the other."""
    target.mkdir()
    for path in sorted(source.rglob("*.dcm")):
        pixels = pydicom.dcmread(path).pixel_array
        Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(target / f"{path.stem}.png")


def timed(function: object, *arguments: object) -> float:
    begin = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - begin


def run(words: list[str]) -> tuple[float, int]:
    """Seconds that ``monai-sagan`` takes, and the greatest sum of what all its processes hold in memory, in bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "monai_sagan.cli", *words], stdout=subprocess.DEVNULL)
    with watched(process.pid) as peak:
        code = process.wait()
    assert code == 0, words
    return time.perf_counter() - begin, max(peak)


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """What a process and its children hold in memory, looked at 20 times a second."""
    seen = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            seen.append(memory_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def memory_of(pid: int) -> int:
    """Resident bytes of a process and its children; what they share counts for each."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory_of(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def start(dataset: Path, cache: Path, output: Path) -> str:
    """From the command to the first iteration, and how much of it are imports."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/folder/train.json"]
    command += ["--dataset_dir", str(dataset), "--cache_dir", str(cache), "--output_dir", str(output)]
    command += ["--channels", "4", "--num_res_blocks", "1", "--batch_size", "4", "--max_iterations", "1"]
    imports = timed(subprocess.run, [sys.executable, "-c", "import monai.bundle, torch.utils.tensorboard, ignite"])
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    seconds = None
    with watched(process.pid) as peak:
        for line in process.stdout:
            if "iteration 1/1" in line:
                seconds = time.perf_counter() - begin
                process.kill()
    assert seconds is not None, "the run ended before its first iteration"
    return (
        f"{seconds:.1f} s to the end of the first iteration, of which imports about "
        f"{imports:.1f} s; peak memory {max(peak) / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
