"""The verbs of ``monai-sagan``: each a line in `VERBS`, with functions that add its arguments and run it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from monai_sagan.bench.command import add_bench_arguments, bench_command
from monai_sagan.bundle import bundle_names, bundle_path, copy_bundle
from monai_sagan.study.command import add_study_arguments, study_command

__all__: list[str] = []

READER_OPTIONS = "further options are those of the dataset's reader, for example --split_file FILE or --split_seed 1"
TRAIN_OPTIONS = "further options are those of python -m monai.bundle run with the bundle's train.json, --key value"
STUDY_OPTIONS = "further options are overrides of the config, --key value, for every run"


class Verb(NamedTuple):
    """A verb of the command.

    Args:
        help: one line.
        add_arguments: adds its own arguments to a parser.
        run: runs it; returns the exit code, None for 0.
        options: description of further options, ``--key value``; None for verbs without.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    options: str | None = None


def _add_nothing(parser: argparse.ArgumentParser) -> None:
    pass


def _list_bundles(arguments: argparse.Namespace) -> None:
    print("\n".join(bundle_names()))


def _add_bundle_and_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="which bundle, see: monai-sagan bundle list")
    parser.add_argument("directory", metavar="DIR", help="a folder that is new or empty")


def _copy_bundle(arguments: argparse.Namespace) -> None:
    print(copy_bundle(arguments.name, arguments.directory))


def _add_pack(parser: argparse.ArgumentParser) -> None:
    _add_bundle_and_folder(parser)
    parser.add_argument("--run", metavar="RUN", help="output_dir of a training run, whose model is packed, too")


def _pack_bundle(arguments: argparse.Namespace) -> None:
    from monai_sagan.bundle.pack import pack_bundle

    print(pack_bundle(arguments.name, arguments.directory, arguments.run))


def _add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="show the options of this method, or of a dotted path")


def _methods(arguments: argparse.Namespace) -> None:
    from monai_sagan.bundle.method_options import describe_options, list_methods

    print(describe_options(arguments.name) if arguments.name else list_methods())


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="which bundle, see: monai-sagan bundle list")


def _train(arguments: argparse.Namespace) -> None:
    import runpy
    from importlib.util import find_spec

    config = str(Path(bundle_path(arguments.bundle)) / "train.json")
    module = "monai.bundle.__main__"
    monai = find_spec(module)
    assert monai is not None
    # Runs MONAI's own module, with its parsing, errors and exit codes.
    sys.argv = [str(monai.origin), "run", "--config_file", config, *arguments.words]
    runpy.run_module(module, run_name="__main__")


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the dataset, in any layout that a bundle reads")
    parser.add_argument("--min_foreground", type=float, default=0.0, metavar="SHARE",
                        help="leave out images with less above their background (default: 0)")  # fmt: skip
    parser.add_argument("--layout", metavar="NAME", help="the layout (default: the one that is recognized)")
    parser.add_argument("--jobs", type=int, help="decoding processes at a time (default: one for each core)")


def _add_data(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--check", action="store_true", help="decode all images, to list every bad file")
    parser.add_argument("--table", metavar="CSV", help="write which image is in which split")


def _data(arguments: argparse.Namespace) -> int:
    from monai_sagan.data.datasets.layouts import read_dataset
    from monai_sagan.data.overview import describe_dataset, look_at_files, write_items

    dataset = read_dataset(arguments.directory, arguments.layout, any_images=True, **arguments.options)
    findings = look_at_files(dataset.datalist, arguments.check, arguments.jobs, arguments.min_foreground)
    if arguments.table:
        write_items(dataset.datalist, arguments.table, findings.good)
    print(describe_dataset(dataset, findings, arguments.check or arguments.min_foreground > 0))
    return 1 if findings.bad else 0


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("output", metavar="OUT", help="a folder that is new, empty, or was begun by the same command")
    parser.add_argument("--image_size", type=int, default=512, help="side of the written images (default: 512)")
    parser.add_argument("--preparation", choices=("display", "med_ad"), default="display",
                        help="of DICOM: as a viewer shows it, or as the published sets were made")  # fmt: skip
    parser.add_argument(
        "--max_unreadable", type=float, default=0.01, help="share of bad images to accept (default: .01)"
    )


def _prepare(arguments: argparse.Namespace) -> None:
    from monai_sagan.data.datasets.layouts import read_dataset
    from monai_sagan.data.prepare import prepare

    dataset = read_dataset(arguments.directory, arguments.layout, **arguments.options)
    names = ("image_size", "preparation", "max_unreadable", "jobs", "min_foreground")
    print(prepare(dataset.datalist, arguments.output, **{name: getattr(arguments, name) for name in names}))


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", help="the folder of an exported model")
    parser.add_argument("directory", metavar="FOLDER", help="images of any format, in folders within folders, too")
    parser.add_argument("output", metavar="OUT", help="a folder that is new, empty, or was begun by the same command")
    parser.add_argument("--slice_axis", type=int, choices=(0, 1, 2), default=2,
                        help="slices of volumes are perpendicular to this axis (default: 2, head to feet)")  # fmt: skip
    parser.add_argument("--slice_range", type=float, nargs=2, metavar="SHARE", default=(0.0, 1.0),
                        help="the part of a volume that is scored (default: 0 1)")  # fmt: skip
    parser.add_argument("--overlays", choices=("all", "flagged", "none"), default="all",
                        help="of all images, those flagged or with a warning, or none (default: all)")  # fmt: skip
    parser.add_argument("--max_unreadable", type=float, default=1.0, help="share of bad images to accept (default: 1)")
    parser.add_argument("--jobs", type=int, help="decoding processes at a time (default: one for each core)")


def _predict(arguments: argparse.Namespace) -> None:
    from monai_sagan.predict import predict

    names = ("slice_axis", "slice_range", "overlays", "max_unreadable", "jobs")
    options = {name: getattr(arguments, name) for name in names}
    print(predict(arguments.artifact, arguments.directory, arguments.output, **options))


def _study(arguments: argparse.Namespace) -> None:
    study_command(arguments, arguments.options)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="output_dir of a training run, or a model file")
    parser.add_argument("directory", metavar="DIR", help="a folder that is new or empty")
    parser.add_argument("--format", default="safetensors", metavar="NAME",
                        help="safetensors (default), torchscript, onnx or torch_export")  # fmt: skip
    parser.add_argument("--which", default="aucp", metavar="NAME",
                        help="of a run's models: aucp (default), chosen without labels, or last")  # fmt: skip
    parser.add_argument("--name", help="of the model, for people (default: the run's folder's)")
    parser.add_argument("--license_file", metavar="FILE", help="license of the weights (default: Apache-2.0)")


def _export(arguments: argparse.Namespace) -> None:
    from monai_sagan.artifact.export import export_artifact

    options = {name: getattr(arguments, name) for name in ("format", "which", "name", "license_file")}
    print(export_artifact(arguments.run, arguments.directory, **options))


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="ARTIFACT", help="the folder of an exported model")


def _verify(arguments: argparse.Namespace) -> None:
    from monai_sagan.artifact.verify import verify_artifact

    print(verify_artifact(arguments.artifact))


def _bench(arguments: argparse.Namespace) -> None:
    bench_command(arguments)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's output_dir")
    parser.add_argument("--output", metavar="FILE", help="the page (default: RUN/report.html)")


def _report(arguments: argparse.Namespace) -> None:
    from monai_sagan.report.page import write_report

    print(write_report(arguments.run, arguments.output))


VERBS = {
    "bundle list": Verb("print the names of the bundles", _add_nothing, _list_bundles),
    "bundle copy": Verb("copy a bundle's files into a folder, to change them", _add_bundle_and_folder, _copy_bundle),
    "bundle pack": Verb("write a bundle in the layout that MONAI's own tools expect", _add_pack, _pack_bundle),
    "methods": Verb("list the methods that can be trained, or the options of one", _add_methods, _methods),
    "train": Verb("train a bundle's network and evaluate it", _add_train, _train, TRAIN_OPTIONS),
    "data": Verb("show what a dataset holds and what is wrong with it", _add_data, _data, READER_OPTIONS),
    "prepare": Verb("decode and resize a dataset once for all", _add_prepare, _prepare, READER_OPTIONS),
    "predict": Verb("score a folder of images by an exported model", _add_predict, _predict),
    "study": Verb("repeat a table of the paper on any dataset", add_study_arguments, _study, STUDY_OPTIONS),
    "export": Verb("write a trained model, with all that using it needs, into a folder", _add_export, _export),
    "verify": Verb("check an exported model: its hashes and its self-test", _add_verify, _verify),
    "bench": Verb("measure how fast this machine trains and restores", add_bench_arguments, _bench),
    "report": Verb("write the page of an evaluated run again", _add_report, _report),
}
