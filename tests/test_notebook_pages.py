"""Committed notebooks were run from top to bottom and hold only what shows without a kernel."""

from pathlib import Path
from statistics import median

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


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
            assert set(cell.metadata) <= {"tags"}
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr"
                assert WIDGET_VIEW not in output.get("data", {})

    def test_names_no_folder_of_the_machine_it_ran_on(self, path):
        text = path.read_text()
        assert not any(f"{folder}/" in text for folder in ("/home", "/root", "/work", "/Users", "/tmp"))

    def test_has_short_code_cells(self, path):
        lines = [len(cell.source.splitlines()) for cell in code_cells(path)]
        assert max(lines) <= 30
        assert median(lines) <= 10

    def test_asserts_its_claims(self, path):
        assert any("assert " in cell.source for cell in code_cells(path))
