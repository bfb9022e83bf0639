"""Committed notebooks were run from top to bottom and hold only what shows without a kernel."""

import base64
import importlib.util
import io
import symtable
from collections import Counter
from pathlib import Path
from statistics import median

import nbformat
import numpy as np
import pytest
from PIL import Image

from vae_helpers.page import refreshed

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def _script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = _script("build_notebooks")
is_plumbing = BUILDER.is_plumbing


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize(
    ("source", "plumbing"),
    [
        ("assert a < b\nc = 1", True),
        ("if slow:\n    assert a", True),
        ("Markdown(f'{a}')", True),
        ("a = train(model)", False),
        ("assert a < b\nplot(a)", False),
        ("torch.testing.assert_close(a, b)", False),
        ("def f(x):\n    assert x\n    return x", False),
    ],
)
def test_plumbing_asserts_or_writes_a_paragraph_and_shows_nothing_else(source, plumbing):
    assert is_plumbing(source) is plumbing


def test_faces_are_kept_as_jpeg_and_plots_as_png():
    rows, columns = np.mgrid[0:120, 0:160]
    soft = np.stack([rows, columns, rows + columns], axis=-1) + np.random.default_rng(0).normal(0, 4, (120, 160, 3))
    lines = np.full((120, 160, 3), 255)
    lines[::20] = lines[:, ::20] = [31, 119, 180]
    cells = []
    for heading in ("# One", "## Two"):
        cells += [nbformat.v4.new_markdown_cell(heading), nbformat.v4.new_code_cell()]
    pictures = []
    for cell, pixels in ((cells[1], soft), (cells[3], lines)):
        pictures.append(Image.fromarray(pixels.clip(0, 255).astype("uint8")))
        png = BUILDER.stored(pictures[-1], "PNG")
        cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": png, "text/plain": ""})]
    notebook = nbformat.v4.new_notebook(cells=cells)
    BUILDER.shrink_pictures(notebook)
    BUILDER.describe_pictures(notebook)
    for cell, kind, picture, most in zip(
        cells[1::2], ("image/jpeg", "image/png"), pictures, (BUILDER.MOST_MOVED, 0), strict=True
    ):
        assert set(cell.outputs[0].data) == {kind, "text/plain"}
        kept = Image.open(io.BytesIO(base64.b64decode(cell.outputs[0].data[kind]))).convert("RGB")
        assert BUILDER.farthest(picture, kept) <= most
    assert cells[1].outputs[0].metadata["image/jpeg"]["alt"] == "Picture of the section: One"
    assert cells[3].outputs[0].metadata["image/png"]["alt"] == "Picture of the section: Two"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
class TestPage:
    def test_is_a_valid_small_notebook_without_widget_state(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert set(notebook.metadata) == {"kernelspec"}
        assert notebook.metadata.kernelspec.name == "python3"
        assert path.stat().st_size < 1_500_000

    def test_was_run_from_top_to_bottom(self, path):
        counts = [cell.execution_count for cell in code_cells(path)]
        assert counts == list(range(1, len(counts) + 1)), "run: make notebooks"

    def test_shows_no_error_warning_or_dead_widget(self, path):
        for cell in code_cells(path):
            assert set(cell.metadata) <= {"tags", "jupyter"}
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr"
                assert WIDGET_VIEW not in output.get("data", {})

    def test_stored_explorers_run_the_code_of_today(self, path):
        for cell in code_cells(path):
            for html in (output.get("data", {}).get("text/html", "") for output in cell.outputs):
                if 'class="vae-live"' in html:
                    assert refreshed(html) == html, "run: python scripts/build_notebooks.py --refresh"
                    assert {"image/png", "image/jpeg"} & set(cell.outputs[0].data), "the still picture comes first"

    def test_pictures_have_a_name_for_those_who_hear_the_page(self, path):
        for output in (output for cell in code_cells(path) for output in cell.outputs):
            for kind in set(BUILDER.PICTURES) & set(output.get("data", {})):
                assert output.metadata[kind]["alt"], "run: python scripts/build_notebooks.py --refresh"

    def test_names_no_folder_of_the_machine_it_ran_on(self, path):
        text = path.read_text()
        assert not any(f"{folder}/" in text for folder in ("/home", "/root", "/work", "/Users", "/tmp"))

    def test_hides_the_input_of_cells_that_only_check_or_write_a_paragraph(self, path):
        for cell in code_cells(path):
            hidden = "hide-input" in cell.metadata.get("tags", []), cell.metadata.get("jupyter") is not None
            assert hidden == (is_plumbing(cell.source),) * 2, "run: python scripts/build_notebooks.py --refresh"

    def test_has_short_code_cells(self, path):
        lines = [len(cell.source.splitlines()) for cell in code_cells(path)]
        assert max(lines) <= 30
        assert median(lines) <= 10 or path.parent.name == "solutions"
        assert max(len(line) for cell in code_cells(path) for line in cell.source.splitlines()) <= 120

    def test_asserts_its_claims(self, path):
        assert any("assert " in cell.source for cell in code_cells(path))


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.parent.name != "solutions"], ids=lambda p: p.name)
def test_every_exercise_links_its_solutions(path):
    headings = [line for cell in nbformat.read(path, as_version=4).cells for line in cell.source.splitlines()]
    headings = [line for line in headings if line.startswith("## Exercises")]
    if path.name.startswith("00"):
        assert not headings
        return
    number = path.name[:2]
    assert headings == [f"## Exercises ([solutions](solutions/{number}_solutions.ipynb))"]
    solutions = (path.parent / "solutions" / f"{number}_solutions.ipynb").read_text()
    assert f"(../{path.name})" in solutions


def names_of(source):
    """(names that a cell gives at its top level, names that it reads from outside of its functions' own)."""
    given, read = set(), set()

    def look(table, top):
        for symbol in table.get_symbols():
            if top and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()):
                given.add(symbol.get_name())
            if symbol.is_referenced() and (top or symbol.is_global()):
                read.add(symbol.get_name())
        for inner in table.get_children():
            look(inner, top=False)

    look(symtable.symtable(source, "cell", "exec"), top=True)
    return given, read


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_name_that_another_cell_reads_has_one_meaning(path):
    """So cells can be run again in any order, once they all were run."""
    cells = [names_of(cell.source) for cell in code_cells(path) if not cell.source.startswith(("%", "!"))]
    given = Counter(name for names, _ in cells for name in names)
    unclear = {name for names, read in cells for name in read - names if given[name] > 1}
    assert not unclear


def test_a_name_with_two_meanings_is_seen():
    assert names_of("def f(x):\n    return x + y\na = [f(b) for b in c]") == ({"f", "a"}, {"f", "y", "c"})
