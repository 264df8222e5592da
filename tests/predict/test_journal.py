"""Entries of files survive an interruption; the last of a file counts."""

from __future__ import annotations

import os

import pytest

from monai_sagan.predict.journal import Journal

NAMES = ["a.png", 'ü, "x"\n.png', os.fsdecode(b"scan\xe9.png")]


def entry(file, score=0.5, **more):
    return {"file": file, "state": [1, 2], "rows": [{"image": file, "score": score} | more]}


def reopened(path):
    journal = Journal(path)
    list(journal.scan())
    return journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "predicted.jsonl"


def test_what_was_appended_is_read_in_any_order(path):
    journal = reopened(path)
    assert (journal.files(), list(journal.read([]))) == ([], [])
    journal.open()
    for name in NAMES:
        journal.append([entry(name)])
    journal.close()
    for found in (journal, reopened(path)):
        assert found.files() == NAMES
        assert list(found.read(reversed(NAMES))) == [entry(name) for name in reversed(NAMES)]


def test_the_last_entry_of_a_file_counts(path):
    journal = Journal(path)
    journal.open()
    journal.append([entry("a", 1), entry("b", 2), entry("a", 3)])
    journal.close()
    assert len(list(Journal(path).scan())) == 3
    again = reopened(path)
    assert list(again.read(["a", "b"])) == [entry("a", 3), entry("b", 2)]
    again.open(without={"b"})
    assert ("a" in again, "b" in again) == (True, False)
    again.append([entry("c", 4)])
    again.close()
    assert path.read_text().count("\n") == 2  # replaced and dropped entries are gone from the disk
    assert list(again.read(["c", "a"])) == [entry("c", 4), entry("a", 3)]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_is_ignored(path, cut):
    journal = Journal(path)
    journal.open()
    journal.append([entry("a"), entry("b")])
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    found = reopened(path)
    assert found.files() == ["a"]
    found.open()
    found.append([entry("b", 1)])
    found.close()
    assert [one["file"] for one in reopened(path).scan()] == ["a", "b"]


@pytest.mark.parametrize("line", ["no JSON", "[]", "{}", '{"file": 1, "state": [], "rows": []}', '{"file": "a"}'])
def test_a_broken_line_is_refused(path, line, refused):
    path.write_text(line + "\n")
    with refused(path, "is broken"):
        list(Journal(path).scan())


def test_earlier_versions_flagged_images_outside_the_training_range(path):
    journal = Journal(path)
    journal.open()
    journal.append([entry("a", flag=True, warning="mean brightness 3.0 is outside"), entry("b", flag=True, warning="")])
    journal.close()
    assert [one["rows"][0]["flag"] for one in journal.read(["a", "b"])] == [None, True]
