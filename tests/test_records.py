"""What a run records waits until all is checked; results take their places together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_sagan.records import drop_records, keep_records, record_text, replace_together, write_records


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    yield folder
    drop_records(folder)


def content(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_without_a_run_a_record_is_written_at_once(folder):
    record_text(folder / "a.json", "a\udce9")
    assert content(folder) == {"a.json": "a\\udce9"}


def test_records_wait_until_they_are_written(folder, monkeypatch):
    begun = []
    (folder / "a.json").write_text("old")
    keep_records(folder, lambda: begun.append(content(folder)["a.json"]))
    monkeypatch.chdir(folder.parent)
    record_text("run/a.json", "first")
    record_text(folder / "a.json", "new")
    record_text(folder.parent / "other.json", "at once")
    assert (content(folder), begun) == ({"a.json": "old"}, [])
    write_records(folder)
    assert begun == ["old"]
    record_text(folder / "b.json", "at once")
    write_records(folder)
    assert (content(folder), len(begun)) == ({"a.json": "new", "b.json": "at once"}, 1)


def test_records_that_are_dropped_are_never_written(folder):
    keep_records(folder, lambda: None)
    record_text(folder / "a.json", "new")
    drop_records(folder)
    write_records(folder)
    assert content(folder) == {}


def test_results_and_records_take_their_places_together(folder):
    (folder / "maps").mkdir()
    (folder / "maps" / "old.png").touch()
    (folder / "kept.txt").write_text("kept")
    keep_records(folder, lambda: None)
    record_text(folder / "config.json", "new")
    with replace_together(folder) as draft:
        (draft / "maps").mkdir()
        (draft / "maps" / "new.png").write_text("png")
        (draft / "scores.csv").write_text("scores")
        assert content(folder).keys() >= {"maps/old.png", "kept.txt"}
        assert not (folder / "scores.csv").exists()
    assert content(folder) == {
        "maps/new.png": "png",
        "kept.txt": "kept",
        "config.json": "new",
        "scores.csv": "scores",
    }


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_leaves_everything_as_it_was(folder, error, refused):
    (folder / "scores.csv").write_text("old")
    keep_records(folder, lambda: None)
    record_text(folder / "config.json", "new")
    full = isinstance(error, OSError)
    with refused(folder, "No space left") if full else pytest.raises(type(error)), replace_together(folder) as draft:
        (draft / "scores.csv").write_text("new")
        raise error
    assert content(folder) == {"scores.csv": "old"}
    assert os.listdir(folder) == ["scores.csv"]


def test_a_folder_in_the_place_of_a_file(folder, refused):
    (folder / "b.json").mkdir()
    with refused(folder, "b.json"), replace_together(folder) as draft:
        (draft / "a.json").touch()
        (draft / "b.json").touch()
    assert os.listdir(folder) == ["b.json"]
