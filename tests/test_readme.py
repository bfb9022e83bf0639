"""The numbers of RESULTS.md and README.md are those of the released files, and links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = (ROOT / "README.md").read_text(), (ROOT / "RESULTS.md").read_text()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("notebooks/*.ipynb")]


def prose(path):
    """The text of a page, or of a notebook's Markdown cells."""
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_the_tables_are_what_the_cards_say():
    spec = importlib.util.spec_from_file_location("build_tables", ROOT / "scripts" / "build_tables.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.results_tables() in RESULTS, "run: make images"
    assert script.speed_table() in README, "run: make images"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_local_links_and_pictures_exist(path):
    targets = re.findall(r"\]\((?!https?://|#|data:|attachment:)([^)#]+)(?:#[^)]*)?\)", prose(path))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_links_are_found():
    assert len(re.findall(r"\]\((?!https?://|#)", README)) >= 10


def test_every_notebook_is_listed():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{path.name}" in README


def test_every_make_target_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def minutes(text):
    """Minutes of "2 min" or "40 s", rounded up; None where no time is given."""
    found = re.search(r"(\d+) (s|min)\b", text)
    return found and (int(found[1]) if found[2] == "min" else -(-int(found[1]) // 60))


def times_in_a_map(page, folder=""):
    """Notebook's file name -> minutes of a quick run, of the table rows that link to it."""
    rows = re.findall(rf"^\| \[\d\d\]\({folder}(\d\d_\w+\.ipynb)\) \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    return {name: minutes(time) for name, time in rows}


def test_the_maps_give_the_run_times_of_the_notebooks_headers():
    start, *others = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    headers = {}
    for path in others:
        found = re.search(r"\bquick (\d+ (?:s|min))\b", nbformat.read(path, as_version=4).cells[0].source)
        headers[path.name] = found and minutes(found[1])
    assert None not in headers.values()
    assert times_in_a_map(prose(start)) == headers
    readme = times_in_a_map(README, "notebooks/")
    assert readme.pop(start.name) is not None
    assert readme == headers
