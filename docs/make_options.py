"""Write the table of a run's settings into the guide on training: ``python docs/make_options.py``."""

from __future__ import annotations

from pathlib import Path

from monai_sagan.methods import resolve_settings
from monai_sagan.methods.sagan import SaganOptions
from monai_sagan.options import describe

PAGE = Path(__file__).parent / "guides" / "training.md"
BEGIN, END = "<!-- settings: python docs/make_options.py -->\n", "<!-- end of settings -->"


def with_settings(text: str) -> str:
    """The page's text with the table as the present settings have it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PAGE} has no place for the settings"
    rows = [
        f"| `{row.name}` | {row.values} | `{row.default}` | {row.help} |"
        for row in describe(SaganOptions, resolve_settings("paper"))
    ]
    return (
        before
        + begin
        + "\n".join(["| key | values | `paper` | meaning |", "|---|---|---|---|", *rows, ""])
        + end
        + after
    )


def main() -> None:
    PAGE.write_text(with_settings(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
