"""Keeping freed memory is for Linux with glibc; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import sys

import pytest

from monai_sagan.engines.memory import keep_freed_memory


class Library:
    def __init__(self, calls, result):
        self.mallopt = lambda *arguments: calls.append(arguments) or result


@pytest.mark.parametrize("result", [0, 1])
def test_both_thresholds_are_raised(monkeypatch, result):
    calls = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library(calls, result))
    assert keep_freed_memory() is bool(result)
    assert calls == [(-3, 2**31 - 1), (-1, 2**31 - 1)][: 1 + result]


def test_elsewhere_nothing_happens(monkeypatch):
    def no_library(name):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    for platform in ("linux", "win32", "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        assert keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # another C library
    assert keep_freed_memory() is False
