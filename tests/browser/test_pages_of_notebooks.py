"""The notebooks' pages in Chromium: nothing is fetched, nothing fails, none is too long to read to the end."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCREEN = 800  # pixels, of a window of 1,100 x 800
MOST = 15.5  # screens: fifteen, and a half for the fonts of other machines


@pytest.fixture(scope="module")
def build_site():
    """The script, which imports others of its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        found = importlib.util.spec_from_file_location("build_site", ROOT / "scripts" / "build_site.py")
        module = importlib.util.module_from_spec(found)
        patch.setitem(sys.modules, "build_site", module)
        found.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_page_needs_no_network_and_has_fifteen_screens_at_most(path, build_site, browser, tmp_path):
    page_file, fetched, failed = tmp_path / f"{path.stem}.html", [], []
    page_file.write_text(build_site.notebook_page(path, "", stored=True))
    page = browser.new_page(viewport={"width": 1100, "height": SCREEN})
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(page_file.as_uri())
    page.wait_for_load_state("networkidle")
    height = page.evaluate("document.documentElement.scrollHeight")
    page.close()
    assert [url for url in fetched if not url.startswith(("file:", "data:", "blob:"))] == []
    assert failed == []
    assert height / SCREEN < MOST
