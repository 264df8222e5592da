"""The page of an evaluated run: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from monai_sagan import run_files
from monai_sagan.errors import SaganError
from monai_sagan.files import write_text
from monai_sagan.report.about import configuration_section, glossary_section
from monai_sagan.report.charts import curves_section, scores_section, training_section
from monai_sagan.report.data_section import data_section
from monai_sagan.report.gallery import gallery_section
from monai_sagan.report.html import Html, join, paragraph, tag
from monai_sagan.report.results import groups_section, localization_section, operating_section, results_section
from monai_sagan.report.style import STYLE
from monai_sagan.report.summary import cautions, page_title, summary
from monai_sagan.runs.read import Run, read_run

__all__ = ["write_report"]

# The page may load nothing: all it shows is inside it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
LINKS = {
    "data": "Data",
    "results": "Results",
    "curves": "Curves",
    "scores": "Scores",
    "operating-points": "Operating points",
    "gallery": "Gallery",
    "localization": "Localization",
    "groups": "Groups",
    "training": "Training",
    "configuration": "Configuration",
    "glossary": "Glossary",
}


def write_report(run_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write ``report.html`` from the files of an evaluated run's folder; the same files give the same bytes.

    ``metrics.json`` and ``scores.csv`` must be there; where another file is missing, its section says so. ``output`` is
    by default ``report.html`` in the run's folder. A `SaganError` names what is missing or broken.

    >>> write_report("runs/never_evaluated")
    Traceback (most recent call last):
    monai_sagan.errors.SaganError: runs/never_evaluated is not a folder; name the output_dir of an evaluated run
    """
    path = Path(run_dir) / run_files.REPORT if output is None else Path(output)
    page = render_page(read_run(run_dir))
    try:
        write_text(path, page)
    except OSError as error:
        raise SaganError(f"cannot write {path} ({error.strerror}); give another output") from None
    return path


def render_page(run: Run) -> str:
    """The page of a run, which loads nothing from elsewhere."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", page_title(run)),
        tag("style", Html(STYLE)),
    )
    links = tag("nav", *(tag("a", words, href=f"#{name}") for name, words in LINKS.items()), aria_label="Sections")
    parts = [
        data_section(run),
        results_section(run),
        curves_section(run),
        scores_section(run),
        operating_section(run),
        gallery_section(run),
        localization_section(run),
        groups_section(run),
        training_section(run),
        configuration_section(run),
        glossary_section(run),
    ]
    end = paragraph("For research only. Not a medical device; no result on this page is a diagnosis.", kind="soft")
    body = join(tag("header", summary(run), cautions(run), links), tag("main", *parts), tag("footer", end))
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', body), lang='en')}\n"
