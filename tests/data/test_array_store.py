"""Stored images are what a tensor of them would be, and no more of them is in memory than is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_sagan.data.array_store import ArrayFile, StoredImages, in_parts, join_images, move_images
from monai_sagan.data.batches import TrainingBatches, validation_batches
from monai_sagan.data.near_duplicates import near_duplicates
from monai_sagan.data.training_range import measure_training_range


@pytest.fixture
def file(tmp_path):
    """Twenty images in a file."""
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (20, 1, 64, 64), np.uint8))
    with_rows = ArrayFile(tmp_path / "pixels.npy")
    yield with_rows
    with_rows.close()


@pytest.fixture
def tensor(tmp_path, file):
    return torch.from_numpy(np.load(tmp_path / "pixels.npy"))


@pytest.fixture
def read(monkeypatch):
    """How many rows each reading takes from now on."""
    counts = []
    reading = ArrayFile.read
    monkeypatch.setattr(ArrayFile, "read", lambda self, rows: counts.append(len(rows)) or reading(self, rows))
    return counts


ROWS = [3, 0, 19, 3, 7, 11, 12]


@pytest.mark.parametrize(
    "which", [slice(None), slice(2, 5), slice(5, 99), [4, 0], torch.tensor([6, 6, 1]), np.arange(3), 2, []], ids=str
)
def test_an_index_gives_what_a_tensor_gives(file, tensor, which):
    stored = StoredImages(file, ROWS)
    expected = tensor[ROWS]
    assert len(stored) == len(expected)
    assert stored.shape == tuple(expected.shape)
    assert stored[which].dtype == torch.uint8
    assert torch.equal(stored[which], expected[which])


def test_images_of_one_file_stay_stored_when_they_are_joined(file, tensor, read):
    one, other = StoredImages(file, ROWS), StoredImages(file, [1, 2])
    both = join_images(one, other, slice(1, None, 2))
    assert isinstance(both, StoredImages)
    assert not read
    assert torch.equal(both[:], tensor[[*ROWS, 1, 2]][1::2])
    assert torch.equal(join_images(one, tensor[:2]), tensor[[*ROWS, 0, 1]])
    assert move_images(one, torch.device("cpu")) is one


@pytest.mark.parametrize("options", [{}, {"augment": True}, {"paired": True}])
def test_batches_are_those_of_tensors_and_read_their_own_images_alone(file, tensor, read, options):
    stored = TrainingBatches(StoredImages(file, range(12)), StoredImages(file, range(12, 20)), 3, 5, **options)
    resident = TrainingBatches(tensor[:12], tensor[12:], 3, 5, **options)
    for step in (0, 5, 2, 9):  # in any order, as when a run goes on
        read.clear()
        one, other = stored.batch(step), resident.batch(step)
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert read == [3, 3, 3]


def test_validation_and_typical_read_part_by_part(file, tensor, read):
    normal, unlabeled = StoredImages(file, range(12)), StoredImages(file, range(12, 20))
    parts = list(validation_batches(normal, unlabeled, batch_size=6))
    assert torch.equal(
        torch.cat([part["image"] for part in parts]),
        torch.cat([part["image"] for part in validation_batches(tensor[:12], tensor[12:])]),
    )
    training_range = measure_training_range(normal, chunk=4 * 64 * 64)
    assert max(read) == 6
    expected = measure_training_range(tensor[:12])
    assert np.array_equal(training_range.pop("mean_image"), expected.pop("mean_image"))
    assert training_range == expected


def test_parts_are_as_large_as_memory_allows():
    assert list(in_parts(5, (5, 1, 4, 4), 32)) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert list(in_parts(2, (2, 1, 4, 4), 1)) == [slice(0, 1), slice(1, 2)]
    assert list(in_parts(0, (0, 1, 4, 4))) == []


def test_larger_images_are_compared_fewer_at_a_time(monkeypatch):
    sizes = []
    shrink = torch.nn.functional.interpolate

    def watched(images, *rest, **options):
        sizes.append(images.numel())
        return shrink(images, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    images = torch.randint(0, 256, (40, 1, 256, 256), dtype=torch.uint8)
    near_duplicates(images, images)
    assert max(sizes) <= 2**20


def test_a_file_that_is_replaced_or_cut_off(tmp_path, file, tensor, refused):
    stored = StoredImages(file, ROWS)
    np.save(tmp_path / "other.npy", np.zeros((20, 1, 64, 64), np.uint8))
    (tmp_path / "other.npy").replace(tmp_path / "pixels.npy")
    assert torch.equal(stored[:], tensor[ROWS])
    other = ArrayFile(tmp_path / "pixels.npy")
    (tmp_path / "pixels.npy").write_bytes((tmp_path / "pixels.npy").read_bytes()[:20000])
    with refused("pixels.npy", "cut off"):
        other.read(np.array([19]))
    for broken in (b"", b"no array"):
        (tmp_path / "pixels.npy").write_bytes(broken)
        with pytest.raises((ValueError, EOFError)):
            ArrayFile(tmp_path / "pixels.npy")
