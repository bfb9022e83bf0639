"""The notebooks as pages: nothing is fetched, no link is broken, mathematics and explorers are inside."""

import importlib.util
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def builder():
    sys.path.insert(0, str(ROOT / "scripts"))  # where the script's own imports lie
    try:
        yield script("build_site")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def site(builder, tmp_path_factory):
    """The site from the notebooks as they are stored."""
    out = tmp_path_factory.mktemp("made") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_OFFLINE", "1")
        builder.build(out, stored=True)
    return out


class Parts(HTMLParser):
    """Links, anchors and everything that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.fetched, self.formulas, self.tags = [], set(), [], 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.formulas += tag == "math"
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("link", "base"):
            self.fetched.append(given.get("href", ""))
        for name in ("src", "srcset", "data", "poster", "action"):
            if name in given:
                self.fetched.append(given[name])


@pytest.fixture(scope="module")
def pages(site):
    return {path.name: Parts(path.read_text()) for path in site.glob("*.html")}


def test_every_notebook_and_page_is_there_and_the_site_is_small(site, pages):
    assert {f"{path.stem}.html" for path in NOTEBOOKS} <= set(pages)
    assert {"index.html", "glossary.html", "teaching.html", "extend.html", "results.html"} <= set(pages)
    assert sum(file.stat().st_size for file in site.iterdir()) < 30e6


def test_nothing_is_fetched(site, pages):
    for name, parts in pages.items():
        assert [address for address in parts.fetched if not address.startswith("data:")] == [], name
        styles = re.findall(r"<style>(.*?)</style>", (site / name).read_text(), re.S)
        assert not any("@import" in style or "url(" in style for style in styles), name
        assert "default-src 'none'" in (site / name).read_text(), name


def test_no_link_is_broken(site, pages):
    for name, parts in pages.items():
        for link in parts.links:
            if re.match(r"https?://|mailto:", link):
                continue
            file, _, anchor = link.partition("#")
            assert not file or (site / file).is_file(), f"{name}: {link}"
            if anchor:
                assert anchor in pages[file or name].anchors, f"{name}: {link}"


def test_mathematics_is_inside(site, pages):
    assert pages["01_ae_vs_vae_2d_gaussians.html"].formulas > 20
    for name in pages:
        text = re.sub(r"<(script|style|pre|code|a)\b.*?</\1>", "", (site / name).read_text(), flags=re.S)
        text = re.sub(r"<[^>]*>", "", text)
        assert "$$" not in text, name
        assert not re.search(r"\\(frac|mathcal|mathbb|sum|log|mathrm)\b", text), name


def test_letters_of_other_kinds_are_characters(builder):
    found = builder.mathml(r"\mathcal N(0, I) \mathbb E \mathcal L \mathbf x", "inline")
    assert all(letter in found for letter in "𝒩𝔼ℒ𝐱")
    assert "mathvariant" not in found


def test_the_front_page_begins_with_a_live_explorer(site):
    text = (site / "index.html").read_text()
    assert text.index('class="vae-live"') < text.index("The notebooks</h2>")
    assert text.count("mountTexts(root, fields.") == 1


def test_stored_explorers_are_in_the_pages_and_plumbing_is_folded(site):
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        live = sum(
            'class="vae-live"' in o.get("data", {}).get("text/html", "") for c in cells for o in c.get("outputs", [])
        )
        text = (site / f"{path.stem}.html").read_text()
        assert text.count('class="vae-live"') - text.count("'class=\"vae-live\"'") >= live
        hidden = sum("hide-input" in cell.metadata.get("tags", []) for cell in cells)
        assert text.count("<details>") == hidden == text.count("</details>"), path.name


def test_downloads_are_notebooks_without_outputs(site):
    for path in NOTEBOOKS:
        notebook = nbformat.read(site / path.name, as_version=4)
        nbformat.validate(notebook)
        assert [c.source for c in notebook.cells] == [c.source for c in nbformat.read(path, as_version=4).cells]
        assert not any(cell.get("outputs") for cell in notebook.cells)


def test_an_explorer_is_taken_only_if_it_shows_a_released_model(builder, tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_EMBED", "1")
    source = """import torch
from vae_helpers.experiments import load_released, m1
from vae_helpers.explorer import LatentExplorer
model = {model}.eval()
LatentExplorer(model, torch.rand(12, 784), shape=(28, 28))"""
    cells = [
        nbformat.v4.new_code_cell(source.format(model=model))
        for model in ('load_released("m1/z20").model', "m1.build(m1.M1Config(z_dim=3, h_dims=(8,)))")
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert builder.bring_to_life(notebook, tmp_path) == [cells[1].id]
    assert any(builder.is_live(output) for output in cells[0].outputs)
    assert not cells[1].outputs
