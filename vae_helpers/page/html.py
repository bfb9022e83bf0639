"""An explorer as HTML with everything inside: a fragment for a notebook's output, or a file of its own."""

from __future__ import annotations

import html
import itertools
import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from vae_helpers.page.arrays import as_text
from vae_helpers.page.specs import Spec
from vae_helpers.training.checkpoint import atomic_write

# scripts and styles of the page itself, pictures that it makes; nothing is fetched
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
_numbers = itertools.count(1)


def _static(name: str) -> str:
    return (files("vae_helpers.page") / "static" / name).read_text(encoding="utf-8")


@cache
def front_end() -> str:
    """The decoder and the controls as one JavaScript module, whose default export is an anywidget's."""
    return _static("decoder.js") + re.sub(r"^import .*\n", "", _static("explorer.js"), flags=re.M)


@cache
def style() -> str:
    """The style sheet of the controls."""
    return _static("explorer.css")


def fragment(spec: Spec, *, without: str = "This explorer needs JavaScript.") -> str:
    """HTML that shows an explorer where scripts run, and the sentence ``without`` where they do not.

    Raises:
        ValueError: if a page cannot run a model's decoder.
    """
    if spec.needs_kernel:
        raise ValueError(f"{spec.needs_kernel}; open the explorer in a notebook, where the kernel draws")
    name = f"vae-{spec.fields['crc']:08x}-{next(_numbers)}"
    fields = json.dumps(spec.fields, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<div class="vae-live" id="{name}"><p>{html.escape(without)}</p></div>\n'
        f'<script type="application/json" id="{name}-fields">{fields}</script>\n'
        f'<script type="text/plain" id="{name}-data">{as_text(spec.data)}</script>\n'
        f"{parts_that_run(name)}"
    )


def parts_that_run(name: str) -> str:
    """Style sheet and module that bring the fragment ``name`` to life; the same for every explorer."""
    start = f'["{name}", "{name}-fields", "{name}-data"].map(id => document.getElementById(id))'
    return (
        f'<style>{style()}</style>\n<script type="module">{front_end()}\n'
        f"const [root, fields, data] = {start};\n"
        "mountTexts(root, fields.textContent, data.textContent);\n</script>\n"
    )


def refreshed(fragment: str) -> str:
    """A fragment with the style sheet and the module of this version; its model and values stay."""
    name = re.search(r'class="vae-live" id="([^"]+)"', fragment)
    if name is None:
        raise ValueError("this is no explorer's HTML")
    return fragment[: fragment.index("<style>")] + parts_that_run(name[1])


def page_html(spec: Spec, *, title: str, about: str = "") -> str:
    """A page of its own; ``title`` and ``about`` are texts, whatever they hold."""
    about = f"<p>{html.escape(about)}</p>" if about else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        "<style>:root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; margin: 24px auto; "
        "max-width: 1000px; padding: 0 16px } h1 { font-size: 20px }</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{about}\n"
        f"{fragment(spec)}</body>\n</html>\n"
    )


def write_page(spec: Spec, path: str | Path, *, title: str, about: str = "") -> Path:
    """Write a page of its own; the file is complete or not there.

    Raises:
        ValueError: as `fragment`. OSError: if the file cannot be written.
    """
    path, text = Path(path), page_html(spec, title=title, about=about).encode()
    atomic_write(path, text)
    return path
