"""The command ``monai-sagan``: each verb is one call of the library."""

from __future__ import annotations

import argparse
import ast
import contextlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_sagan._version import __version__
from monai_sagan.bench.command import add_bench_arguments, bench_command
from monai_sagan.bundle import bundle_names, bundle_path, copy_bundle
from monai_sagan.bundle.folders import nearest
from monai_sagan.bundle.texts import as_typed, is_text
from monai_sagan.errors import SaganError, no_room
from monai_sagan.files import print_any_name
from monai_sagan.packages import pip_install
from monai_sagan.study.command import add_study_arguments, study_command

__all__ = ["main"]

READER_OPTIONS = "further options are those of the dataset's reader, for example --split_file FILE or --split_seed 1"

TAKEN = {"dataset_dir", "left_out", "notes", "any_images"}

# Installed without its dependencies, the package still verifies and predicts, see the guide on deployment.
LEFT_OUT = {"torch", "monai", "ignite", "sklearn", "matplotlib", "tensorboard"}

TRAIN_OPTIONS = "further options are those of python -m monai.bundle run with the bundle's train.json, --key value"
STUDY_OPTIONS = "further options are overrides of the config, --key value, for every run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments ``argv``, by default the process's own, and return its exit code.

    A mistake of the user becomes one line on stderr and the code 2.
    """
    print_any_name()
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        _check_names(parser, arguments, rest)
        arguments.words = rest
        arguments.options = {} if arguments.verb is _train else _options(rest)
        _check_options(arguments)
        code = arguments.verb(arguments) or 0
        sys.stdout.flush()
        return code
    except SaganError as error:
        print(f"monai-sagan: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in LEFT_OUT:
            raise
        print(f"monai-sagan: error: this needs {error.name}, which is not installed; {pip_install('training')}",
              file=sys.stderr)  # fmt: skip
        return 2
    except BrokenPipeError:  # as by: monai-sagan ... | head
        _silence_output()
        return 141
    except OSError as error:
        message = no_room(error)
        if message is None:
            raise
        if error.filename is None:  # of the standard output
            _silence_output()
        print(f"monai-sagan: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("monai-sagan: stopped; the same command goes on where it can", file=sys.stderr)
        return 130


def _silence_output() -> None:
    """What could not be written must not be tried again when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_names(parser: argparse.ArgumentParser, arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse an option that the verb does not have, with the nearest name; a study asks its config what there is."""
    known = set[str]()
    if hasattr(arguments, "layout"):
        from monai_sagan.data.datasets.layouts import option_names

        known = option_names() | TAKEN
    for name in (word[2:].partition("=")[0] for word in rest if word.startswith("--")):
        near = nearest(name, {*arguments.flags, *known}) if known or not arguments.takes_options else ""
        if near and name not in known:
            raise SaganError(f"no option --{name}; the nearest is --{near}")
    if rest and not arguments.takes_options:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")


def _options(words: Sequence[str]) -> dict[str, Any]:
    """``--key value`` pairs; values are Python literals where they read as such, else text, as paths and names are."""
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name or not (equals or rest):
            raise SaganError(f"{word!r} is not understood; options are given as --key value")
        value = value if equals else rest.pop(0)
        if is_text(name):
            options[name] = as_typed(name, value)
            continue
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = {"true": True, "false": False}.get(value.lower(), value)
    return options


def _check_options(arguments: argparse.Namespace) -> None:
    taken = TAKEN & set(arguments.options)
    if taken and hasattr(arguments, "directory"):
        raise SaganError(f"--{taken.pop()} is not an option here; the dataset is the first argument, DIR")


def _train(arguments: argparse.Namespace) -> None:
    import runpy
    from importlib.util import find_spec

    config = str(Path(bundle_path(arguments.bundle)) / "train.json")
    module = "monai.bundle.__main__"
    monai = find_spec(module)
    assert monai is not None
    # As `python -m monai.bundle run` has it: the same reading of the words, the same errors, the same exit codes.
    sys.argv = [str(monai.origin), "run", "--config_file", config, *arguments.words]
    runpy.run_module(module, run_name="__main__")


def _list_bundles(arguments: argparse.Namespace) -> None:
    print("\n".join(bundle_names()))


def _copy_bundle(arguments: argparse.Namespace) -> None:
    print(copy_bundle(arguments.name, arguments.directory))


def _pack_bundle(arguments: argparse.Namespace) -> None:
    from monai_sagan.bundle.pack import pack_bundle

    print(pack_bundle(arguments.name, arguments.directory, arguments.run))


def _data(arguments: argparse.Namespace) -> int:
    from monai_sagan.data.datasets.layouts import read_dataset
    from monai_sagan.data.overview import describe_dataset, look_at_files, write_items

    dataset = read_dataset(arguments.directory, arguments.layout, any_images=True, **arguments.options)
    findings = look_at_files(dataset.datalist, arguments.check, arguments.jobs, arguments.min_foreground)
    if arguments.table:
        write_items(dataset.datalist, arguments.table, findings.good)
    print(describe_dataset(dataset, findings, arguments.check or arguments.min_foreground > 0))
    return 1 if findings.bad else 0


def _prepare(arguments: argparse.Namespace) -> None:
    from monai_sagan.data.datasets.layouts import read_dataset
    from monai_sagan.data.prepare import prepare

    dataset = read_dataset(arguments.directory, arguments.layout, **arguments.options)
    folder = prepare(
        dataset.datalist,
        arguments.output,
        arguments.image_size,
        arguments.preparation,
        arguments.max_unreadable,
        arguments.jobs,
        arguments.min_foreground,
    )
    print(folder)


def _predict(arguments: argparse.Namespace) -> None:
    from monai_sagan.predict import predict

    options = {name: getattr(arguments, name) for name in ("slice_axis", "slice_range", "overlays", "jobs")}
    print(predict(arguments.artifact, arguments.directory, arguments.output, **options))


def _export(arguments: argparse.Namespace) -> None:
    from monai_sagan.artifact.export import export_artifact

    options = {name: getattr(arguments, name) for name in ("format", "which", "name", "license_file")}
    print(export_artifact(arguments.run, arguments.directory, **options))


def _verify(arguments: argparse.Namespace) -> None:
    from monai_sagan.artifact.verify import verify_artifact

    print(verify_artifact(arguments.artifact))


def _report(arguments: argparse.Namespace) -> None:
    from monai_sagan.report.page import write_report

    print(write_report(arguments.run, arguments.output))


def _study(arguments: argparse.Namespace) -> None:
    study_command(arguments, arguments.options)


def _bench(arguments: argparse.Namespace) -> None:
    bench_command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monai-sagan",
        description="Semi-supervised anomaly detection in medical images with the Spatial-aware Attention GAN.",
        epilog="To evaluate or infer: python -m monai.bundle run --config_file BUNDLE/evaluate.json",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(takes_options=False)
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    bundle = nouns.add_parser("bundle", help="list, copy or pack the bundles")
    verbs = bundle.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="print the names of the bundles")
    verb.set_defaults(verb=_list_bundles)

    verb = verbs.add_parser("copy", help="copy a bundle's files into a folder, to be changed at will")
    verb.add_argument("name", metavar="NAME", help="which bundle, see: monai-sagan bundle list")
    verb.add_argument("directory", metavar="DIR", help="a folder that is new or empty")
    verb.set_defaults(verb=_copy_bundle)

    verb = verbs.add_parser("pack", help="write a bundle in the layout that MONAI's own tools expect")
    verb.add_argument("name", metavar="NAME", help="which bundle, see: monai-sagan bundle list")
    verb.add_argument("directory", metavar="DIR", help="a folder that is new or empty")
    verb.add_argument("--run", metavar="RUN", help="output_dir of a training run, whose model goes along")
    verb.set_defaults(verb=_pack_bundle)

    verb = nouns.add_parser("train", help="train a bundle's network and evaluate it", epilog=TRAIN_OPTIONS)
    verb.add_argument("bundle", metavar="BUNDLE", help="which bundle, see: monai-sagan bundle list")
    verb.set_defaults(verb=_train, takes_options=True)

    verb = nouns.add_parser("data", help="say what a dataset holds and what is wrong with it", epilog=READER_OPTIONS)
    _dataset_arguments(verb)
    verb.add_argument("--check", action="store_true", help="decode all images, to list every bad file")
    verb.add_argument("--table", metavar="CSV", help="write which image is in which split")
    verb.set_defaults(verb=_data)

    verb = nouns.add_parser("prepare", help="decode and resize a dataset once for all", epilog=READER_OPTIONS)
    _dataset_arguments(verb)
    verb.add_argument("output", metavar="OUT", help="a folder that is new, empty, or was begun by the same command")
    verb.add_argument("--image_size", type=int, default=512, help="side of the written images (default: 512)")
    verb.add_argument("--preparation", choices=("display", "med_ad"), default="display",
                      help="of DICOM: as a viewer shows it, or as the published sets were made")  # fmt: skip
    verb.add_argument("--max_unreadable", type=float, default=0.01, help="share of bad images to accept (default: .01)")
    verb.set_defaults(verb=_prepare)

    verb = nouns.add_parser("predict", help="score a folder of images by an exported model")
    verb.add_argument("artifact", metavar="ARTIFACT", help="the folder of an exported model")
    verb.add_argument("directory", metavar="FOLDER", help="images of any format, in folders within folders, too")
    verb.add_argument("output", metavar="OUT", help="a folder that is new, empty, or was begun by the same command")
    verb.add_argument("--slice_axis", type=int, choices=(0, 1, 2), default=2,
                      help="slices of volumes are perpendicular to this axis (default: 2, head to feet)")  # fmt: skip
    verb.add_argument("--slice_range", type=float, nargs=2, metavar="SHARE", default=(0.0, 1.0),
                      help="the part of a volume that is scored (default: 0 1)")  # fmt: skip
    verb.add_argument("--overlays", choices=("all", "flagged", "none"), default="all",
                      help="of all images, of those flagged or with a warning, or of none (default: all)")  # fmt: skip
    verb.add_argument("--jobs", type=int, help="decoding processes at a time (default: one for each core)")
    verb.set_defaults(verb=_predict)

    verb = nouns.add_parser("study", help="repeat a table of the paper on any dataset", epilog=STUDY_OPTIONS)
    add_study_arguments(verb)
    verb.set_defaults(verb=_study, takes_options=True)

    verb = nouns.add_parser("export", help="write a trained model, with all that using it needs, into a folder")
    verb.add_argument("run", metavar="RUN", help="output_dir of a training run, or a model file")
    verb.add_argument("directory", metavar="DIR", help="a folder that is new or empty")
    verb.add_argument("--format", default="safetensors", metavar="NAME",
                      help="safetensors (default), torchscript, onnx or torch_export")  # fmt: skip
    verb.add_argument("--which", default="aucp", metavar="NAME",
                      help="of a run's models: aucp (default), chosen without labels, or last")  # fmt: skip
    verb.add_argument("--name", help="of the model, for people (default: the run's folder's)")
    verb.add_argument("--license_file", metavar="FILE", help="license of the weights (default: Apache-2.0)")
    verb.set_defaults(verb=_export)

    verb = nouns.add_parser("verify", help="check an exported model: its hashes and its self-test")
    verb.add_argument("artifact", metavar="ARTIFACT", help="the folder of an exported model")
    verb.set_defaults(verb=_verify)

    verb = nouns.add_parser("bench", help="measure how fast this machine trains and restores")
    add_bench_arguments(verb)
    verb.set_defaults(verb=_bench)

    verb = nouns.add_parser("report", help="write the page of an evaluated run again")
    verb.add_argument("run", metavar="RUN", help="the run's output_dir")
    verb.add_argument("--output", metavar="FILE", help="the page (default: RUN/report.html)")
    verb.set_defaults(verb=_report)
    for one in (*nouns.choices.values(), *verbs.choices.values()):
        one.set_defaults(flags=re.findall(r"--(\w+)", one.format_usage()))
    return parser


def _dataset_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("directory", metavar="DIR", help="the dataset, in any layout that a bundle reads")
    verb.add_argument("--min_foreground", type=float, default=0.0, metavar="SHARE",
                      help="leave out images with less above their background (default: 0)")  # fmt: skip
    verb.add_argument("--layout", metavar="NAME", help="the layout; without it, it is found out")
    verb.add_argument("--jobs", type=int, help="decoding processes at a time (default: one for each core)")
    verb.set_defaults(takes_options=True)


if __name__ == "__main__":
    sys.exit(main())
