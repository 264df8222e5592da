"""README and docs: each command and each Python block is carried out, names and links exist, the site builds.

A command is written for a reader; `ROWS` says how it is carried out here, at reduced size and on generated images. A
command without a row fails.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path

import pytest
from browser import chromium, faults
from command_line import carry_out
from filelock import FileLock

import monai_sagan
from monai_sagan._version import __version__
from monai_sagan.bundle import bundle_names
from monai_sagan.data.datasets.phantom import write_phantom
from monai_sagan.study import STUDIES
from monai_sagan.study.rows import named_rows

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(
        path for path in (REPOSITORY / "docs").rglob("*.md") if path.parent.name != "tutorials"
    ),  # a build's copies
    *sorted((REPOSITORY / "bundles").glob("*/README.md")),
]
CI = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")

COUNTS = {"train_normal": 20, "unlabeled_normal": 8, "unlabeled_abnormal": 12, "test_normal": 6, "test_abnormal": 6}
SMALL = {"channels": 4, "num_res_blocks": 1, "batch_size": 4, "max_iterations": 2, "iterations_per_epoch": 2}
EXPORT = "monai-sagan export RUN ARTIFACT --format onnx"
PACK = "monai-sagan bundle pack phantom PACKED --run RUN"
BUILD = "python -m sphinx -W docs site"
TRAINING = {**SMALL, "anomaly_ratio": "none", "device": "cpu"}


# What the pages hold


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(page.relative_to(REPOSITORY).as_posix(), language, text) for language, text in found]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def commands() -> list[str]:
    """Each once, with one spelling for what a reader puts in."""
    text = "".join(block.text for block in BLOCKS if block.language == "bash")
    text = re.sub(r"/path/to/\S+", "DIR", text.replace("/path/to/any/images", "FOLDER"))
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


# How commands are carried out


@dataclass
class Workshop:
    """A folder with a tiny dataset, a tiny run of it, and what is made of that run when it is first asked for."""

    folder: Path

    @cached_property
    def run(self) -> Path:
        """The run of the bundle's own first command; its dataset lies where that bundle looks for it."""
        run = self.folder / "runs" / "phantom"
        write_phantom(run / "data", counts=COUNTS)
        line = "python -m monai.bundle run --config_file bundles/phantom/train.json"
        self.carry_out(with_options(shlex.split(line), TRAINING), self.folder)
        return run

    @property
    def copy(self) -> Path:
        """Where a copy of what pip needs of the repository is: building leaves folders behind."""
        return self.folder / "copy"

    def copied(self, name: str) -> Path:
        self.copy.mkdir(exist_ok=True)
        return self.copy / name

    @cached_property
    def artifact(self) -> Path:
        return self.make(EXPORT, "ARTIFACT")

    @cached_property
    def packed(self) -> Path:
        return self.make(PACK, "PACKED")

    @cached_property
    def site(self) -> Path:
        """The documentation as the page's command builds it, once for all processes that run tests."""
        for module in ("furo", "myst_nb", "sphinx"):
            pytest.importorskip(module)
        place = self.folder.parents["PYTEST_XDIST_WORKER" in os.environ] / "documentation"
        with FileLock(f"{place}.lock"):
            if not place.exists():
                for folder in ("docs", "bundles", "tutorials"):
                    shutil.copytree(REPOSITORY / folder, place / folder)
                for path in REPOSITORY.glob("*.md"):
                    shutil.copy(path, place)
                self.carry_out([*shlex.split(BUILD), "-q", "--keep-going"], place)
        return place / "site"

    def make(self, command: str, name: str) -> Path:
        """What a page's command makes, for itself and for those that use it.

        A model is written in the format that takes a moment, not half a minute; `tests/artifact` writes all.
        """
        folder = self.folder / name
        words = {"RUN": self.run, name: folder, "onnx": "safetensors"}
        self.carry_out([str(words.get(word, word)) for word in command.split()], self.folder)
        return folder

    def value(self, name: str, fresh: Path) -> str:
        """What a page's placeholder stands for; ``fresh`` is a folder that is not there yet."""
        made = {
            "DIR": lambda: self.run / "data",
            "FOLDER": lambda: self.run / "data" / "images",
            "RUN": lambda: self.run,
            "ARTIFACT": lambda: self.artifact,
            "PACKED": lambda: self.packed,
            "OUT": lambda: fresh,
        }
        return str(made[name]())

    def fill(self, word: str, fresh: Path) -> str:
        found = re.fullmatch(r"(DIR|FOLDER|RUN|ARTIFACT|PACKED|OUT)(/.*)?", word)
        return self.value(found[1], fresh) + (found[2] or "") if found else word

    def place(self, folder: Path) -> Path:
        """A current folder in which pages' relative paths lead to the repository's files and to the tiny run."""
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        for name in ("bundles", "docs", "benchmarks", "tests"):
            if not (folder / name).exists():
                (folder / name).symlink_to(REPOSITORY / name)
        return folder

    def carry_out(self, words: list[str], place: Path) -> None:
        before = Path.cwd()
        os.chdir(self.place(place))
        try:
            assert carry_out(words) == 0, shlex.join(words)
        finally:
            os.chdir(before)


def with_options(words: list[str], options: dict[str, object]) -> list[str]:
    """Options added to those that are given already."""
    return [*words, *(f"--{key}={value}" for key, value in options.items() if f"--{key}" not in words)]


def as_it_stands(workshop: Workshop, command: str, place: Path) -> None:
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    for name in bundle_names():  # its trained run lies where the bundle's own commands look for it
        workshop.place(place)
        (place / "runs" / name).symlink_to(workshop.run)
    workshop.carry_out(words, place)


def train(workshop: Workshop, command: str, place: Path) -> None:
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    options = {**TRAINING, "dataset_dir": workshop.run / "data"}
    workshop.carry_out(with_options(words, options), place)
    assert list((place / "runs").glob("*/metrics.json"))


def train_pu(workshop: Workshop, command: str, place: Path) -> None:
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    own = {name: value for name, value in TRAINING.items() if name != "num_res_blocks"}
    workshop.carry_out(with_options(words, {**own, "dataset_dir": workshop.run / "data"}), place)
    assert list((place / "runs").glob("*/metrics.json"))


def train_tracked(workshop: Workshop, command: str, place: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="MONAI tracks into an SQLite file, for which mlflow-skinny needs it")
    train(workshop, command, place)


def made(workshop: Workshop, command: str, place: Path) -> None:
    folder = {EXPORT: lambda: workshop.artifact, PACK: lambda: workshop.packed}[command]()
    assert any(folder.iterdir())


def tiny_network(workshop: Workshop, command: str, place: Path) -> None:
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    workshop.carry_out(with_options(words, {"channels": 4, "num_res_blocks": 1}), place)


def one_row(workshop: Workshop, command: str, place: Path) -> None:
    """A study of the table's first row and one seed."""
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    name, row = next(iter(STUDIES[words[2]].items()))
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{words[2]}.json").write_text(json.dumps({name: row}))
    words[2] += ".json"
    workshop.carry_out([*with_options(words, TRAINING), "--seeds", "0", "--jobs", "1"], place)
    assert (place / "runs" / "table3" / "table.md").is_file()


def installed(workshop: Workshop, words: list[str]) -> None:
    """Let pip do as it would, of a copy of the repository and of packages that are there: it asks no index.

    It stops before it changes this environment, unless the command says itself where else it installs.
    """
    if not workshop.copy.exists():
        names = ("monai_sagan", "bundles", "setup.py", "pyproject.toml", "LICENSE", "README.md", "constraints.txt")
        for name in names:
            path = REPOSITORY / name
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, workshop.copied(name))
    assert words[:2] == ["pip", "install"]
    options = ["--quiet", "--no-index", "--no-build-isolation", *([] if "--target" in words else ["--dry-run"])]
    command = [sys.executable, "-m", *words, *options]
    done = subprocess.run(command, cwd=workshop.copy, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def install_and_go_on(workshop: Workshop, command: str, place: Path) -> None:
    """The whole of it is done by the automatic check, too; the whole suite is not run by one of its tests."""
    in_ci(workshop, command, place)
    first, second = command.split(" && ")
    installed(workshop, shlex.split(first))
    if second != "pytest":
        train(workshop, second, place)


def in_ci(workshop: Workshop, command: str, place: Path) -> None:
    """The automatic check carries it out: it names the command, or finds it in the README by its beginning."""
    for part in command.split(" && "):
        written = re.findall(r'(?:step|readme_command) ["\'](.+?)["\']', CI)
        assert any(part == line or command.startswith(line) for line in written), f".ci/run does not do: {part}"


def an_extra(workshop: Workshop, command: str, place: Path) -> None:
    """Pip passes over an extra that there is not: what the extra brings has to be found."""
    installed(workshop, shlex.split(command))
    extras = re.findall(r'"(\w+)": *(?:\[|[A-Z]+\b)', (REPOSITORY / "setup.py").read_text(encoding="utf-8"))
    assert command.split("[")[1].split("]")[0] in extras


def without_torch(workshop: Workshop, command: str, place: Path) -> None:
    """Into a folder of its own; `tests/artifact/test_predict_onnx.py` predicts where torch cannot be imported."""
    first, second = (shlex.split(part) for part in command.split(" && "))
    installed(workshop, [*first, "--target", str(place)])
    installed(workshop, second)
    assert (place / "monai_sagan" / "bundles" / "rsna" / "train.json").is_file()
    assert [path.name for path in place.glob("*.dist-info")] == [f"monai_sagan-{__version__}.dist-info"]


def two_processes(workshop: Workshop, command: str, place: Path) -> None:
    """By torchrun itself, and on the CPU, where the processes talk through gloo."""
    words = [workshop.fill(word, place / "out") for word in shlex.split(command)]
    assert words.pop(0) == "torchrun"
    options = {name: value for name, value in TRAINING.items() if name != "device"}  # a process finds its own
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *with_options(words, options)],
        cwd=workshop.place(place),
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (place / "runs" / "rsna" / "metrics.json").is_file()


def smallest(workshop: Workshop, command: str, place: Path) -> None:
    size = {"channels": 4, "num_res_blocks": 1, "batch_size": 2, "images": 8}
    options = {"device": "cpu", "rounds": 1, "threads": 1, "output": place / "bench.json"} | size
    workshop.carry_out(with_options(shlex.split(command), options), place)
    assert list(json.loads((place / "bench.json").read_text()))[-2:] == ["training", "inference"]


def some_tests(workshop: Workshop, command: str, place: Path) -> None:
    """Not all of them: they are part of this very suite."""
    words = [sys.executable, "-m", *shlex.split(command), "-n", "0", "-p", "no:cacheprovider", "-k", "wrong_shares"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def the_site(workshop: Workshop, command: str, place: Path) -> None:
    assert command == BUILD
    assert (workshop.site / "index.html").is_file()


def in_tensorboard(workshop: Workshop, command: str, place: Path) -> None:
    """By the part of TensorBoard that reads the folder; the command serves pages until it is stopped."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    workshop.place(place)
    (place / "runs" / "phantom").symlink_to(workshop.run)
    program, option, folder = shlex.split(command)
    assert shutil.which(program)
    assert option == "--logdir"
    shown = EventMultiplexer().AddRunsFromDirectory(str(place / folder)).Reload().Runs()
    assert {"critic", "aucp"} <= set(shown["tensorboard"]["scalars"])


MONAI = r"python -m monai\.bundle"
BUNDLE = rf"--config_file bundles/({'|'.join(bundle_names())})"

ROWS: dict[str, Callable[[Workshop, str, Path], None]] = {
    r'pip install -c constraints\.txt -e (\.|"\.\[dev\]") && .+': install_and_go_on,
    r"ruff check \. && ruff format --check \. && mypy --strict": in_ci,
    r'pip install -c constraints\.txt -e "\.\[(\w+)\]"': an_extra,
    r"pip install --no-deps \. && pip install [a-z ]+": without_torch,
    r"pytest tests/transforms -q": some_tests,
    re.escape(BUILD): the_site,
    r"monai-sagan bench training inference": smallest,
    r"torchrun --standalone .+": two_processes,
    rf"{MONAI} run {BUNDLE}/train\.json( --dataset_dir DIR)?( --preset paper --seed 1 --output_dir \S+)?": train,
    rf"{MONAI} run {BUNDLE}/train\.json --dataset_dir DIR --method pu": train_pu,
    rf"{MONAI} run {BUNDLE}/train\.json --tracking mlflow": train_tracked,
    rf"{MONAI} run {BUNDLE}/evaluate\.json( --dataset_dir DIR)?( --run_dir RUN --output_dir OUT)?": as_it_stands,
    rf"{MONAI} run {BUNDLE}/inference\.json --dataset_dir FOLDER": as_it_stands,
    rf"{MONAI} run {BUNDLE}/inference\.json --dataset_dir FOLDER --model RUN/model\.pt --output_dir OUT": as_it_stands,
    rf"{MONAI} run {BUNDLE}/inference\.json --dataset_dir runs/phantom/data/images": as_it_stands,
    rf"{MONAI} run --config_file PACKED/configs/inference\.json --dataset_dir DIR --output_dir OUT": as_it_stands,
    rf"{MONAI} (verify_net_in_out|ckpt_export) --net_id network_def .+": tiny_network,
    r"monai-sagan bundle list": as_it_stands,
    r"monai-sagan bundle copy \w+ OUT": as_it_stands,
    re.escape(PACK): made,
    r"monai-sagan data DIR (--check|--table items\.csv)": as_it_stands,
    r"monai-sagan prepare DIR OUT": as_it_stands,
    r"monai-sagan report RUN": as_it_stands,
    r"monai-sagan study table3 .+": one_row,
    r"tensorboard --logdir runs/phantom": in_tensorboard,
    re.escape(EXPORT): made,
    r"monai-sagan verify ARTIFACT": as_it_stands,
    r"monai-sagan predict ARTIFACT FOLDER OUT": as_it_stands,
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.mark.parametrize("command", commands())
def test_a_command_does_what_it_says(command, workshop, tmp_path):
    rows = [how for pattern, how in ROWS.items() if re.fullmatch(pattern, command)]
    assert rows, f"no row of ROWS says how to carry out: {command}"
    rows[0](workshop, command, tmp_path / "place")


def test_no_row_is_left_over():
    assert [pattern for pattern in ROWS if not any(re.fullmatch(pattern, command) for command in commands())] == []


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language == "python"}))
def test_the_python_of_a_page_runs(page, workshop, tmp_path, monkeypatch, capsys):
    place = workshop.place(tmp_path / "place")
    (place / "runs" / "phantom").symlink_to(workshop.run)
    monkeypatch.chdir(place)
    names: dict[str, object] = {"__name__": page}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            text = re.sub(r'"(DIR|ARTIFACT)"', lambda found: repr(workshop.value(found[1], place)), block.text)
            exec(compile(text, page, "exec", dont_inherit=True), names)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=lambda block: block.page)
def test_rows_of_a_study_are_rows(block):
    assert named_rows(json.loads(block.text))[1]


# What a reader of the site sees


def test_tutorials_are_pages_with_the_outputs_that_they_store(workshop):
    for path in sorted((REPOSITORY / "tutorials").glob("*.ipynb")):
        page = (workshop.site / "tutorials" / f"{path.stem}.html").read_text(encoding="utf-8")
        outputs = [output for cell in json.loads(path.read_text())["cells"] for output in cell.get("outputs", [])]
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert page.count('class="cell_output') >= 3
        assert len(re.findall(r'<img [^>]*src="\.\./_images/', page)) == len(pictures)
        words = unescape(re.sub(r"<[^>]+>", "", page))
        assert [line for output in outputs for line in output.get("text", []) if line.strip() not in words] == []
    assert 'href="tutorials/1_restore_and_score.html"' in (workshop.site / "tutorials.html").read_text(encoding="utf-8")


FAULTY = """<!DOCTYPE html><title>faulty</title><meta name="viewport" content="width=device-width">
<style>@media (prefers-color-scheme: dark) { body { background: #111; color: #555 } }</style>
<p style="color: #999">faint</p> <a href="#gone">a</a> <a href="gone.html">b</a> <a href="#here" id="here">c</a>
<img src="gone.png"> <div style="width: 800px">wide</div>
<div style="overflow: auto"><table><tr><td><div style="width: 600px">cut</div></table></div>
<script>console.error("said"); throw new Error("raised")</script>"""


def test_a_browser_finds_what_is_wrong(tmp_path):
    (tmp_path / "faulty.html").write_text(FAULTY)
    with chromium() as browser:
        found = "\n".join(faults(browser, [tmp_path / "faulty.html"]))
    for words in ("said", "raised", "gone.png failed", "a link to file:///", "faulty.html#gone", "/gone.html"):
        assert words in found, words
    assert "#here" not in found
    assert re.findall(r"on a (\w+) in light: contrast 2.85", found) == ["phone", "desk"]
    assert re.findall(r"on a (\w+) in dark: contrast 2.53", found) == ["phone", "desk"]
    assert re.findall(r"on a (\w+) in (\w+): 8\d\d pixels", found) == [("phone", "light"), ("phone", "dark")]
    assert re.findall(r"on a (\w+) in (\w+): a table is cut off", found) == [("phone", "light"), ("phone", "dark")]


def test_the_site_in_a_browser(workshop):
    with chromium() as browser:
        assert faults(browser, sorted(workshop.site.rglob("*.html"))) == []


# What the pages name


def test_the_commands_that_ci_reads_stand_in_the_readme_once():
    lines = [line for block in blocks(REPOSITORY / "README.md") for line in block.text.splitlines()]
    for start in re.findall(r"readme_command '(.+?)'", CI):
        assert sum(line.startswith(start) for line in lines) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{target} is not there"
    for name in re.findall(r"\b(?:benchmarks|docs|tests|monai_sagan)/[\w/]+\.(?:py|md|json|ipynb)\b", text):
        assert (REPOSITORY / name).exists(), f"{name} is not there"


def test_no_auc_of_the_readme_stands_without_a_baseline():
    table = re.findall(r"^\|(.+)\|$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    head, _, *rows = [[cell.strip() for cell in row.split("|")] for row in table[: table.index("---|---") - 1]]
    measured, baseline = head.index("AUC here, 3 seeds"), head.index("best baseline")
    assert any(re.search(r"\.\d", row[measured]) for row in rows)
    for row in rows:
        assert bool(re.search(r"\.\d", row[measured])) == bool(re.search(r"\.\d", row[baseline])), row


@pytest.fixture(scope="module")
def configs() -> dict[str, dict[str, object]]:
    return {name: json.loads((REPOSITORY / "bundles" / name / "train.json").read_text()) for name in bundle_names()}


def test_options_that_pages_name_exist(configs):
    known = {key for config in configs.values() for key in config} | {"tracking", "logdir"}  # of MONAI and TensorBoard
    sources = [*(REPOSITORY / "monai_sagan").rglob("*.py"), *(REPOSITORY / "benchmarks").glob("*.py")]
    known |= {option for path in sources for option in re.findall(r'"--([a-z]\w*)"', path.read_text(encoding="utf-8"))}
    for page in PAGES:
        options = re.findall(r"`--([a-z]\w*)", page.read_text(encoding="utf-8"))
        assert set(options) - known == set(), page


def test_every_option_of_a_bundle_is_on_a_page(configs):
    named = {word for page in PAGES for word in re.findall(r"`(?:--)?([a-z]\w*)", page.read_text(encoding="utf-8"))}
    for name, config in configs.items():
        keys = list(config)
        options = keys[: keys.index("settings")]
        made = {"bundle", "bundle_root", "datalist", "dataset_options"}
        assert set(options) - named - made == set(), f"options of {name} that no page names"


def test_every_part_of_the_package_is_in_the_reference():
    pages = "".join(path.read_text() for path in (REPOSITORY / "docs" / "reference").glob("*.rst"))
    shown = set(re.findall(r"\bmonai_sagan\.\w+", " ".join(re.findall(r"public-modules:: (.+)", pages))))
    parts = {f"monai_sagan.{part.name}" for part in pkgutil.iter_modules(monai_sagan.__path__) if part.name[0] != "_"}
    assert parts == shown


def test_the_citation_is_one():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert str(citation["version"]) == __version__
    assert {"message", "title", "authors", "license"} <= set(citation)
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    assert "2405.12872" in paper["url"]
    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
