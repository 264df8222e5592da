"""The command ``monai-sagan``: thin, quick to start, and one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from monai_sagan._version import __version__
from monai_sagan.bundle import folders
from monai_sagan.cli import main
from monai_sagan.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def one_bundle(tmp_path, monkeypatch):
    """A checkout with one bundle, ``toy``."""
    folder = tmp_path / "checkout" / "bundles" / "toy"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "checkout" / "monai_sagan" / "bundle" / "folders.py"))


def test_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"monai-sagan {__version__}\n"


def test_bundle_list(capsys):
    assert main(["bundle", "list"]) == 0
    assert capsys.readouterr().out == "toy\n"


def test_bundle_copy_prints_where(tmp_path, capsys):
    assert main(["bundle", "copy", "toy", str(tmp_path / "mine")]) == 0
    assert Path(capsys.readouterr().out.strip(), "metadata.json").is_file()


def test_user_error_is_one_line_and_code_2(tmp_path, capsys):
    assert main(["bundle", "copy", "toi", str(tmp_path / "mine")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "monai-sagan: error: no bundle 'toi'; the nearest is 'toy' of: toy\n"


@pytest.mark.parametrize(
    ("words", "wrong", "closest"),
    [
        ("predict a b c --ovrelays none", "ovrelays", "overlays"),
        ("export a b --fromat onnx", "fromat", "format"),
        ("bundle pack a b --rnu c", "rnu", "run"),
        ("data a --chekc", "chekc", "check"),
        ("data a --spit_seed=1", "spit_seed", "split_seed"),
        ("prepare a b --image_sise 64", "image_sise", "image_size"),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest(words, wrong, closest, capsys):
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"monai-sagan: error: no option --{wrong}; the nearest is --{closest}\n"


@pytest.mark.parametrize("words", ["report a --zzz", "verify a b", "bench --quux 1"])
def test_an_option_like_no_other_shows_the_usage(words, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(words.split())
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["bundle"], ["bundle", "copy", "toy"], ["bundel"]])
def test_incomplete_command_shows_the_usage(argv, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(argv)
    assert capsys.readouterr().err.startswith("usage: monai-sagan")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_its_help(verb, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*verb.split(), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: monai-sagan {verb} ")
    assert (VERBS[verb].options or "") in shown


def test_help_imports_nothing_heavy():
    code = (
        "import sys, monai_sagan.cli\n"
        "try: monai_sagan.cli.main(['--help'])\n"
        "except SystemExit: sys.exit(str(sorted({'torch', 'monai', 'ignite', 'numpy'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "usage: monai-sagan" in done.stdout
    assert done.stderr.strip() == "[]"


def without(package, *words):
    """Run the command where a package is missing."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; from monai_sagan.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["bench"], ["export", "run", "out"]])
def test_a_package_that_was_left_out_is_one_line(words):
    done = without("torch", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("monai-sagan: error: this needs torch, which is not installed; pip install torch ")
    assert done.stderr.count("\n") == 1


def test_a_package_that_every_installation_has_is_an_error_of_it(tmp_path):
    done = without("numpy", "data", str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ModuleNotFoundError" in done.stderr


@pytest.fixture
def pictures(tmp_path):
    """A folder of so many pictures that what is said of them fills a pipe."""
    for part in ("normal", "unlabeled"):
        (tmp_path / "set" / part).mkdir(parents=True)
        for i in range(700):
            (tmp_path / "set" / part / f"{part}-{i:060d}.png").touch()
    return tmp_path / "set"


def test_output_that_nobody_reads_to_its_end(pictures):
    command = f"{sys.executable} -m monai_sagan.cli data {pictures} --jobs 1 | head -2"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("layout     folder")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_output_that_cannot_be_written(pictures):
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "monai_sagan.cli", "data", str(pictures), "--jobs", "1"]
        done = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("monai-sagan: error: cannot write (No space left on device)")
    assert done.stderr.count("\n") == 1
