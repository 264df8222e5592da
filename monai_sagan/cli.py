"""The command ``monai-sagan``: each verb is one call of the library. Training is ``python -m monai.bundle run``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from monai_sagan._version import __version__
from monai_sagan.bundle import bundle_names, copy_bundle
from monai_sagan.errors import SaganError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments ``argv``, by default the process's own, and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.verb(arguments)
    except SaganError as error:
        print(f"monai-sagan: error: {error}", file=sys.stderr)
        return 2
    return 0


def _list_bundles(arguments: argparse.Namespace) -> None:
    print("\n".join(bundle_names()))


def _copy_bundle(arguments: argparse.Namespace) -> None:
    print(copy_bundle(arguments.name, arguments.directory))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="monai-sagan",
        description="Semi-supervised anomaly detection in medical images with the Spatial-aware Attention GAN.",
        epilog="To train, evaluate or infer: python -m monai.bundle run --config_file BUNDLE/train.json",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    nouns = parser.add_subparsers(metavar="COMMAND", required=True)
    verbs = nouns.add_parser("bundle", help="list or copy the bundles").add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="print the names of the bundles")
    verb.set_defaults(verb=_list_bundles)

    verb = verbs.add_parser("copy", help="copy a bundle's files into a folder, to be changed at will")
    verb.add_argument("name", metavar="NAME", help="which bundle, see: monai-sagan bundle list")
    verb.add_argument("directory", metavar="DIR", help="a folder that is new or empty")
    verb.set_defaults(verb=_copy_bundle)
    return parser


if __name__ == "__main__":
    sys.exit(main())
