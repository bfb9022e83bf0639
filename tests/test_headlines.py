"""A number in the text of a page is one that a run made: it stands in an output, a released file or a setting."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
RESULTS = (ROOT / "RESULTS.md").read_text()
NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
NO_PROSE = re.compile(
    r"\$\$.*?\$\$|\$[^$]+\$|```.*?```|`[^`]*`|\]\([^)]*\)|^\|.*?$|\*\(Check.*?\)\*", re.DOTALL | re.MULTILINE
)
QUOTED = {  # numbers of other people's work and of arithmetic, with the words that must stand beside them
    "93.2": "Pyro's M2",
    "0.035": "1/√794",
    "0.001": "of its logarithm per step",
    "0.278": "The notes report",
    "82.8": "Shu 2016",
    "93.3": "Shu 2016",
}


def numbers(text):
    """The numbers of a text, as floats."""
    return [float(found.replace("−", "-").replace(",", "")) for found in NUMBER.findall(text)]


def measured(notebook):
    """All numbers that the notebook's outputs and code have."""
    texts = [RESULTS]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source)
            for output in cell.outputs:
                data = output.get("data", {})
                if 'class="vae-live"' in data.get("text/html", ""):
                    continue  # weights
                texts += [
                    output.get("text", ""),
                    *(str(data.get(f"text/{kind}", "")) for kind in ("plain", "html", "markdown")),
                ]
    return {abs(number) for text in texts for number in numbers(text)}


def typed(text):
    """Decimal numbers of prose: outside of formulas, code, links, tables and check values of exercises."""
    text = NO_PROSE.sub(" ", text.split("## References")[0])
    return [found for found in NUMBER.findall(text) if "." in found and "e" not in found]


def unsupported(text, known):
    """Those decimal numbers of a text that round none of the known ones."""
    missing = []
    for found in typed(text):
        value, digits = abs(float(found.replace("−", "-").replace(",", ""))), len(found.split(".")[1])
        if not any(abs(value - number) <= 0.5001 * 10**-digits for number in known):
            missing.append(found)
    return missing


@pytest.mark.parametrize("text", ["We got 12.3 nats.", "between 12.31 and 12.35", "−12.3"])
def test_a_number_that_no_run_made_is_found(text):
    assert unsupported(text, {12.28}) == [number for number in typed(text) if number.strip("−") != "12.3"]
    assert unsupported(text, {12.4}) == typed(text) != []


def test_formulas_code_tables_and_check_values_are_no_prose():
    assert typed("$a = 1.5$ `lr=0.1` [a](b-2.5) *(Check: 3.5.)*\n| 4.5 |\n```\n5.5\n```\n") == []


@pytest.mark.parametrize("name", ["README.md", "docs/teaching.md", "notebooks/glossary.md"])
def test_numbers_of_the_pages_stand_in_the_results(name):
    known = {abs(number) for number in numbers(RESULTS)} | {3.11, 1.4, 1.44}  # Python, gigabytes, bits per nat
    assert unsupported((ROOT / name).read_text(), known) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_numbers_in_prose_were_measured(path):
    notebook = nbformat.read(path, as_version=4)
    known = measured(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            missing = [n for n in unsupported(cell.source, known) if QUOTED.get(n, "\0") not in cell.source]
            assert missing == [], cell.source
