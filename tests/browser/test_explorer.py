"""The slider panels in a real browser: JupyterLab in Chromium, driven by Playwright (make test-browser).

The tests open notebooks 00 and 05 to 09 on a fresh server, run them and move a control as a person would. The
picture is compared through a canvas, because its address changes with every frame.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# a picture's pixels as one string, so that "did it change?" does not depend on its address
PIXELS = """img => { const c = document.createElement('canvas');
             c.width = img.naturalWidth; c.height = img.naturalHeight;
             c.getContext('2d').drawImage(img, 0, 0); return c.toDataURL(); }"""
# milliseconds from a key press to the next picture, measured inside the page
KEY_TO_PICTURE = """([handle, img]) => new Promise(resolve => {
    const began = performance.now();
    img.addEventListener('load', () => resolve(performance.now() - began), { once: true });
    handle.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', code: 'ArrowRight', keyCode: 39,
                                                bubbles: true }));
})"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab that serves a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "VAE_OFFLINE": "1",
        "VAE_BUDGET": "smoke",
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
    }
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until(lambda: urllib.request.urlopen(f"{address}/api", timeout=2).status == 200)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.fail("Chromium is not installed: on Debian, apt-get install chromium; then make test-browser again")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def run_through(browser, lab, notebook, *, until, screenshot):
    """A page with a notebook run from top to bottom, until there is something of each of these selectors."""
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.goto(f"{lab}/lab/workspaces/test/tree/notebooks/{notebook}?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.get_by_text("| Idle").wait_for(timeout=90_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    for selector in until:
        page.wait_for_selector(selector, timeout=480_000)
    yield page
    (ROOT / "test-results").mkdir(exist_ok=True)
    page.screenshot(path=ROOT / "test-results" / screenshot)
    page.close()


@pytest.fixture(scope="module")
def page(browser, lab):
    """Notebook 00, run from top to bottom."""
    selectors = [".noUi-handle", ".latent-pad", ".widget-toggle-buttons button"]
    with run_through(browser, lab, "00_start_here.ipynb", until=selectors, screenshot="explorer.png") as found:
        yield found


def explorer_picture(page):
    return page.locator(".latent-picture").nth(1)


def pad_picture(page):
    return page.locator(".latent-picture").nth(0)


def press(page, handle, times=5):
    """Move a slider by its arrow key."""
    page.locator(".noUi-handle").nth(handle).focus()
    for _ in range(times):
        page.keyboard.press("ArrowRight")


def changes(page, picture, act):
    """Do ``act`` and wait until the picture's pixels are others."""
    before = picture.evaluate(PIXELS)
    act()
    _wait_until(lambda: picture.evaluate(PIXELS) != before, seconds=10)


def test_a_key_press_on_a_slider_changes_the_picture(page):
    readout = page.locator(".widget-readout").nth(1).inner_text()
    changes(page, explorer_picture(page), lambda: press(page, 1))
    assert page.locator(".widget-readout").nth(1).inner_text() != readout


def test_dragging_a_slider_changes_the_picture(page):
    def drag():
        box = page.locator(".noUi-handle").nth(2).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 50, y, steps=5)
        page.mouse.up()

    changes(page, explorer_picture(page), drag)


def test_start_from_another_digit_random_and_reset(page):
    picture = explorer_picture(page)

    def next_digit():
        page.locator(".noUi-handle").nth(0).focus()
        page.keyboard.press("ArrowRight")

    changes(page, picture, next_digit)
    page.wait_for_timeout(500)
    digit = picture.evaluate(PIXELS)
    changes(page, picture, page.get_by_role("button", name="Random").first.click)
    page.get_by_role("button", name="Reset").first.click()
    _wait_until(lambda: picture.evaluate(PIXELS) == digit, seconds=10)


def test_pointing_in_the_pad_and_its_arrow_keys_change_the_picture(page):
    pad = page.locator(".latent-pad")
    pad.scroll_into_view_if_needed()
    changes(page, pad_picture(page), lambda: pad.click(position={"x": 60, "y": 60}))

    def press():
        pad.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")

    changes(page, pad_picture(page), press)


def test_a_label_button_changes_the_picture(page):
    picture = page.locator(".latent-picture").nth(2)
    picture.scroll_into_view_if_needed()
    for label in (5, 8):  # the first digit is a 3
        changes(page, picture, page.locator(".widget-toggle-buttons button").nth(label).click)


def test_time_from_key_press_to_picture_is_reported(page, capsys):
    handle = page.locator(".noUi-handle").nth(3).element_handle()
    picture = explorer_picture(page).element_handle()
    times = []
    for _ in range(25):
        times.append(page.evaluate(KEY_TO_PICTURE, [handle, picture]))
        page.wait_for_timeout(60)
    with capsys.disabled():
        median, worst = statistics.median(times), max(times)
        print(f"\nkey press to picture: median {median:.0f} ms, worst {worst:.0f} ms of {len(times)}")
    assert len(times) == 25  # every press brought a picture; how fast is a measurement, not a condition


def test_one_button_and_one_slider_move_two_models_side_by_side(browser, lab):
    selectors = [".widget-toggle-buttons button", ".latent-picture"]
    with run_through(browser, lab, "05_label_placement.ipynb", until=selectors, screenshot="comparison.png") as page:
        picture = page.locator(".latent-picture")
        picture.scroll_into_view_if_needed()
        page.wait_for_timeout(2000)
        page.locator(".widget-toggle-buttons button").nth(1).click()  # whatever the first digit is
        page.wait_for_timeout(1000)
        changes(page, picture, page.locator(".widget-toggle-buttons button").nth(5).click)

        changes(page, picture, lambda: press(page, 1))


def test_a_component_a_draw_from_it_and_a_slider_change_the_picture(browser, lab):
    selectors = [".noUi-handle", ".latent-picture"]
    with run_through(browser, lab, "06_better_priors.ipynb", until=selectors, screenshot="components.png") as page:
        picture = page.locator(".latent-picture")
        picture.scroll_into_view_if_needed()
        page.wait_for_timeout(2000)

        component, latent = 1, 2  # the first control chooses the digit
        told = page.get_by_text("of the examples")
        before = told.inner_text()
        changes(page, picture, lambda: press(page, component))
        assert told.inner_text() != before
        changes(page, picture, page.get_by_role("button", name="Draw from it").click)
        changes(page, picture, lambda: press(page, latent))


def test_the_factor_sliders_turn_move_and_reshape_the_picture(browser, lab):
    selectors = [".noUi-handle", ".latent-picture"]
    with run_through(browser, lab, "07_warm_start.ipynb", until=selectors, screenshot="factors.png") as page:
        picture = page.locator(".latent-picture")
        picture.scroll_into_view_if_needed()
        page.wait_for_timeout(2000)
        for factor in ("shape", "scale", "orientation", "x", "y"):
            assert page.locator(".widget-label", has_text=factor).first.is_visible()

        for handle in range(5):
            changes(page, picture, lambda handle=handle: press(page, handle, times=15))
        changes(page, picture, page.get_by_role("button", name="Reset").click)


@pytest.mark.parametrize(
    ("notebook", "screenshot"), [("08_non_synergistic.ipynb", "independent.png"), ("09_faces.ipynb", "faces.png")]
)
def test_the_latents_of_a_released_model_move(browser, lab, notebook, screenshot):
    selectors = [".noUi-handle", ".latent-picture"]
    with run_through(browser, lab, notebook, until=selectors, screenshot=screenshot) as page:
        picture = page.locator(".latent-picture").first
        picture.scroll_into_view_if_needed()
        page.wait_for_timeout(2000)

        for handle in (0, 1):  # the image to start from, and the most informative latent
            changes(page, picture, lambda handle=handle: press(page, handle, times=15))
        changes(page, picture, page.get_by_role("button", name="Random").first.click)


def _wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.1)
