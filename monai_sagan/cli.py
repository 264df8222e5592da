"""The command ``monai-sagan``; ``python -m monai_sagan.cli`` is the same. Its verbs are in `monai_sagan.verbs`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Sequence

from monai_sagan._version import __version__
from monai_sagan.bundle.folders import nearest
from monai_sagan.bundle.words import parse_options, split_options
from monai_sagan.errors import SaganError, no_room
from monai_sagan.files import print_any_name
from monai_sagan.packages import pip_install
from monai_sagan.verbs import VERBS

__all__: list[str] = []

NOUNS = {"bundle": "list, copy or pack the bundles"}  # the first words of verbs of two words
TAKEN = {"dataset_dir", "any_images"}  # arguments of readers that are not options

# Installed without its dependencies, the package still verifies and predicts, see the guide on deployment.
LEFT_OUT = {"torch", "monai", "ignite", "sklearn", "matplotlib", "tensorboard"}


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
        arguments.options = {} if arguments.verb is VERBS["train"] else parse_options(rest)  # MONAI reads its own
        _check_options(arguments)
        code = arguments.verb.run(arguments) or 0
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
        print("monai-sagan: stopped; the same command resumes where possible", file=sys.stderr)
        return 130


def _silence_output() -> None:
    """Discard output that could not be written: it must not be tried again when the process ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_names(parser: argparse.ArgumentParser, arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse unknown options, naming the nearest one; a study checks its own against its config."""
    known = set[str]()
    if hasattr(arguments, "layout"):
        from monai_sagan.data.datasets.layouts import option_names

        known = option_names() | TAKEN
    for name in split_options(rest)[0]:
        near = nearest(name, {*arguments.flags, *known}) if known or not arguments.verb.options else ""
        if near and name not in known:
            raise SaganError(f"no option --{name}; the nearest is --{near}")
    if rest and not arguments.verb.options:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")


def _check_options(arguments: argparse.Namespace) -> None:
    taken = TAKEN & set(arguments.options)
    if taken and hasattr(arguments, "directory"):
        raise SaganError(f"--{taken.pop()} is not an option here; the dataset is the first argument, DIR")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monai-sagan",
        description="Semi-supervised anomaly detection in medical images with the Spatial-aware Attention GAN.",
        epilog="To evaluate or infer: python -m monai.bundle run --config_file BUNDLE/evaluate.json",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    groups = {"": parser.add_subparsers(metavar="COMMAND", required=True)}
    for words, verb in VERBS.items():
        noun, _, name = words.rpartition(" ")
        if noun not in groups:
            groups[noun] = groups[""].add_parser(noun, help=NOUNS[noun]).add_subparsers(metavar="VERB", required=True)
        one = groups[noun].add_parser(name, help=verb.help, epilog=verb.options)
        verb.add_arguments(one)
        one.set_defaults(verb=verb, flags=re.findall(r"--(\w+)", one.format_usage()))
    return parser


if __name__ == "__main__":
    sys.exit(main())
