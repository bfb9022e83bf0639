"""All notebooks as pages that need no network: mathematics as MathML, pictures inside, explorers alive.

    python scripts/build_site.py [--out site] [--stored]

The front page shows a live explorer first. Notebooks are exported as they are stored. An explorer that a notebook is
too large to keep is made anew: the notebook runs at the smoke budget, and its explorers are taken if they show released
models, which no budget changes. ``--stored`` leaves this out.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import nbformat
import numpy as np
from build_notebooks import is_live, shrink_pictures, split_explorers, strip_widgets
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image
from pygments.formatters import HtmlFormatter

import vae_helpers as vh
from vae_helpers.experiments.released import load_released, read_card, released_names
from vae_helpers.explorer.explorers import EMBED, STILL
from vae_helpers.library import page_spec
from vae_helpers.page import Arrays, NotInAPage, fragment, from_text, page_decoder
from vae_helpers.page.html import POLICY

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
FRONT = "m1/z2"  # the explorer of the front page
PAGES = {  # Markdown files that become pages
    "glossary.html": NOTEBOOKS / "glossary.md",
    "teaching.html": ROOT / "docs" / "teaching.md",
    "extend.html": ROOT / "docs" / "extend.md",
    "results.html": ROOT / "RESULTS.md",
}
PLACES = {path.name: name for name, path in PAGES.items()} | {"README.md": "index.html"}
STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 960px; margin: 0 auto; padding: 12px 16px 60px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; padding-bottom: 8px; font-size: 14px;
  border-bottom: 1px solid var(--line) }
h1 { font-size: 28px; line-height: 1.25 } h2 { margin-top: 2em; border-bottom: 1px solid var(--line) }
a { color: LinkText }
pre { overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; margin: 0; padding: 8px 10px }
.input_area { border: 1px solid var(--line); border-radius: 4px; margin: 12px 0 }
.output { margin: 8px 0 16px; overflow-x: auto } code { font-size: .9em }
img { max-width: 100%; height: auto; background: #fff }
table { border-collapse: collapse; font-size: 14px; margin: 10px 0 }
th, td { padding: 3px 9px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
.dataframe td, .dataframe th { text-align: right }
blockquote { border-left: 3px solid var(--line); margin: 12px 0; padding-left: 14px }
math[display=block] { margin: 12px 0; overflow-x: auto }
details { border: 1px solid var(--line); border-radius: 4px; padding: 2px 10px }
"""


class Renderer(IPythonRenderer):
    """Markdown with MathML, with links to the pages of the site."""

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def _src_to_base64(self, src: str) -> str | None:  # nbconvert's own stops at the notebook's folder
        file = (Path(self.path) / src).resolve()
        if "://" in src or not file.is_relative_to(ROOT) or not file.is_file():
            raise ValueError(f"{self.path}: the picture {src} is not in this repository")
        kind = file.suffix[1:].replace("jpg", "jpeg")
        return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"

    def heading(self, text: str, level: int, **attrs: object) -> str:
        """With the anchor that links to a heading use."""
        words = html.unescape(re.sub(r"<[^>]*>", "", text)).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, placed(url), title)


LETTERS = {"script": "SCRIPT", "double-struck": "DOUBLE-STRUCK", "bold": "BOLD"}


def mathml(text: str, display: str) -> str:
    """LaTeX as MathML; letters of another kind as characters, which is what browsers draw."""

    def letter(found: re.Match[str]) -> str:
        case = "CAPITAL" if found[2].isupper() else "SMALL"
        name = f"{LETTERS[found[1]]} {case} {found[2].upper()}"
        try:
            return f"<mi>{unicodedata.lookup(f'MATHEMATICAL {name}')}</mi>"
        except KeyError:  # some stand elsewhere in Unicode
            return f"<mi>{unicodedata.lookup(name)}</mi>"

    return re.sub(rf'<mi mathvariant="({"|".join(LETTERS)})">([A-Za-z])</mi>', letter, convert(text, display=display))


def placed(url: str) -> str:
    """Where a link of a notebook or a Markdown file leads to in the site."""
    address, mark, anchor = url.partition("#")
    name = address.rsplit("/", 1)[-1]
    if "://" in url or url.startswith("mailto:") or not address:
        return url
    if name.endswith(".ipynb"):
        return name.replace(".ipynb", ".html") + mark + anchor
    return PLACES.get(name, address) + mark + anchor


class Exporter(HTMLExporter):
    """Notebooks by `Renderer`; the input of plumbing cells is folded away."""

    def markdown2html(self, context, source):  # the name and the arguments are nbconvert's
        path = context.get("resources", {}).get("metadata", {}).get("path", "")
        renderer = Renderer(escape=False, embed_images=True, path=path)
        return MarkdownWithMath(renderer=renderer).render(source)

    markdown2html.__dict__.update(HTMLExporter.markdown2html.__dict__)  # jinja's mark: it gets the context


@cache
def exporter() -> Exporter:
    """The one exporter, whose templates are compiled once."""
    return Exporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)


def rendered(text: str, folder: Path) -> str:
    """Markdown as HTML."""
    return MarkdownWithMath(renderer=Renderer(escape=False, embed_images=True, path=str(folder))).render(text)


def smaller(found: re.Match[str]) -> str:
    """A picture in a page as lossless WebP, where that is smaller."""
    data = base64.b64decode(found[2])
    picture, buffer = Image.open(io.BytesIO(data)), io.BytesIO()
    moving = getattr(picture, "n_frames", 1) > 1
    picture.save(buffer, "WEBP", lossless=True, quality=60, method=4, save_all=moving)
    if len(buffer.getvalue()) >= len(data):
        return found[0]
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def page(title: str, body: str, links: str) -> str:
    """A complete page; nothing in it is fetched."""
    body = re.sub(r"data:image/(png|gif);base64,([A-Za-z0-9+/=]+)", smaller, body)
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="monokai").get_style_defs(".highlight")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}{colours}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n.highlight {{ background: none }}"
        f"</style></head>\n<body>\n<nav>{links}</nav>\n<main>\n{body}\n</main>\n</body></html>\n"
    )


def decoders_of(fields: dict, data: bytes) -> set[str]:
    """A hash of each decoder's weights in an explorer."""
    found = set()
    for i in range(len(fields["models"])):
        weights = hashlib.sha256()
        for name, entry in fields["arrays"].items():
            if name.startswith(f"m{i}.w"):
                width = np.dtype(entry["dtype"]).itemsize
                weights.update(data[entry["offset"] : entry["offset"] + math.prod(entry["shape"]) * width])
        found.add(weights.hexdigest())
    return found


@cache
def released_decoders() -> set[str]:
    """`decoders_of` every released model that a page can run."""
    found = set()
    for name in released_names():
        if read_card(name)["weights_sha256"]:
            arrays = Arrays()
            try:
                page_decoder(load_released(name).model, arrays, prefix="m0.")
            except NotInAPage:
                continue
            found |= decoders_of({"models": [0], "arrays": arrays.index}, arrays.data)
    return found


def shows_released(output: nbformat.NotebookNode) -> bool:
    """True if all models of an explorer's page are released ones: a short run shows them as a long one does."""
    text = output.data["text/html"]
    fields = json.loads(re.search(r'-fields">(.*?)</script>', text)[1])
    data = from_text(re.search(r'-data">(.*?)</script>', text)[1])
    return decoders_of(fields, data) <= released_decoders()


def bring_to_life(notebook: nbformat.NotebookNode, folder: Path) -> list[str]:
    """Run the notebook at smoke and take the explorers that show released models; the ids of the cells left."""
    again = nbformat.from_dict(notebook)
    ExecutePreprocessor(timeout=3600, kernel_name="python3").preprocess(again, {"metadata": {"path": str(folder)}})
    strip_widgets(again)
    shrink_pictures(again)
    split_explorers(again)
    left = []
    for stored, new in zip(notebook.cells, again.cells, strict=True):
        live = [output for output in new.get("outputs", []) if is_live(output)]
        if not live or any(is_live(output) for output in stored.outputs):
            continue
        if all(map(shows_released, live)):
            stored.outputs = new.outputs
        else:
            left.append(stored.id)
    return left


def lacks_explorers(notebook: nbformat.NotebookNode) -> bool:
    """True if a still picture stands alone where an explorer was too large to keep."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return any(STILL in output.get("data", {}).get("text/html", "") and not is_live(output) for output in outputs)


def notebook_page(path: Path, links: str, *, stored: bool) -> str:
    """A notebook as a page."""
    notebook = nbformat.read(path, as_version=4)
    if lacks_explorers(notebook) and not stored:
        left = bring_to_life(notebook, path.parent)
        print(f"{path.name}: explorers made anew" + (f", except in {', '.join(left)}" if left else ""), flush=True)
    body, _ = exporter().from_notebook_node(
        notebook, resources={"metadata": {"path": str(path.parent), "name": path.stem}}
    )
    return page(path.stem.replace("_", " "), folded(body), links)


def to_download(path: Path) -> nbformat.NotebookNode:
    """The notebook without its outputs: it makes them anew when it runs."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def folded(body: str) -> str:
    """The input of cells that are marked as plumbing, in a fold."""
    start = r'(<div class="cell [^"]*celltag_hide-input[^>]*>\s*)(<div class="input">.*?)'
    end = r'(?=\n<div class="output_wrapper">|\n</div>\s*<div class="cell|\Z)'
    return re.compile(start + end, re.S).sub(
        lambda m: f"{m[1]}<details><summary>code of this paragraph or check</summary>{m[2]}</details>", body
    )


def front_page(names: list[str]) -> str:
    """The first screen is a live explorer; below it, what the notebooks ask."""
    readme = (ROOT / "README.md").read_text()
    title, about = re.search(r"# (.*?)\n\n(.*?)\n\n", readme, re.S).groups()
    first = re.search(r"\*\*What is a VAE\?\*\*.*?\n\n", readme, re.S)[0]
    table = re.search(r"## The notebooks\n.*?(?=\n## )", readme, re.S)[0]
    model, digits = vh.load(FRONT), vh.load_images("mnist")
    spec = page_spec(model, digits, title="two latents")
    body = (
        f"<h1>{html.escape(title)}</h1>\n{rendered(first, ROOT)}\n"
        "<p>Each dot is a handwritten digit as two numbers. <strong>Drag the black dot</strong>: "
        "the decoder draws what belongs to its place.</p>\n"
        f"{fragment(spec)}\n{rendered(about, ROOT)}\n{rendered(table, ROOT)}\n"
    )
    return page(title, body, nav("index.html", names))


def nav(current: str, names: list[str]) -> str:
    """Links to the front page, to the neighbours, and to the notebook itself."""
    links = ['<a href="index.html">all notebooks</a>']
    if current in names:
        at = names.index(current)
        for word, other in (("previous", at - 1), ("next", at + 1)):
            if 0 <= other < len(names):
                links.append(f'<a href="{names[other]}">{word}: {names[other][:2]}</a>')
    if (file := current.replace(".html", ".ipynb")) != current and current[:2].isdigit():
        links.append(f'<a href="{file}" download>download the notebook</a>')
    return "\n".join([*links, *(f'<a href="{name}">{name[:-5]}</a>' for name in PAGES)])


def build(out: Path, *, stored: bool = False) -> None:
    """Write the site; the folder is complete or as it was."""
    main = sorted(NOTEBOOKS.glob("*.ipynb"))
    names = [f"{path.stem}.html" for path in main]
    with tempfile.TemporaryDirectory(dir=out.resolve().parent) as place:
        made = Path(place) / "site"
        made.mkdir()
        for path in [*main, *sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))]:
            (made / f"{path.stem}.html").write_text(notebook_page(path, nav(f"{path.stem}.html", names), stored=stored))
            (made / path.name).write_text(nbformat.writes(to_download(path)))
        for name, path in PAGES.items():
            (made / name).write_text(page(name[:-5], rendered(path.read_text(), path.parent), nav(name, names)))
        (made / "index.html").write_text(front_page(names))
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    print(f"{out}: {len(list(out.iterdir()))} files, {size:.1f} MB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    parser.add_argument("--stored", action="store_true", help="make no explorer anew")
    arguments = parser.parse_args()
    os.environ.update(VAE_BUDGET="smoke", **{EMBED: "1"})
    with tempfile.TemporaryDirectory() as runs:
        os.environ["VAE_RUNS"] = runs
        sys.exit(build(arguments.out, stored=arguments.stored))
