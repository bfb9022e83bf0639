"""Explorers in JupyterLab in Chromium, driven by Playwright (make test-browser).

The tests open notebooks 00 and 05 to 09 on a fresh server, run them and move a control as a person would. A notebook
of their own asks what Python sees of it, lets the kernel draw, and shuts the kernel down.
"""

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from chromium import changes, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    return folder


@pytest.fixture(scope="module")
def lab(folder):
    """Address of a JupyterLab that serves the copy."""
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
            wait_until(lambda: urllib.request.urlopen(f"{address}/api", timeout=2).status == 200)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


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


def edited(page, i=0):
    """The picture that follows the controls, of the i-th explorer of the page."""
    return (
        page.locator(".vae-explorer")
        .nth(i)
        .locator(".vae-strip:not(.vae-small) canvas, .vae-view > figure canvas")
        .last
    )


def press(control, times=10):
    """Move a slider by its arrow key."""
    for _ in range(times):
        control.press("ArrowRight")


@pytest.fixture(scope="module")
def page(browser, lab):
    """Notebook 00, run from top to bottom."""
    selectors = [".vae-pad", ".vae-label", ".vae-explorer >> nth=3"]
    with run_through(browser, lab, "00_start_here.ipynb", until=selectors, screenshot="explorer.png") as found:
        yield found


@pytest.mark.parametrize("explorer", [1, 2, 3])
def test_a_slider_changes_the_picture(page, explorer):
    box = page.locator(".vae-explorer").nth(explorer)
    box.scroll_into_view_if_needed()
    slider = box.locator("input[aria-label^=z]").first
    changes(edited(page, explorer), lambda: press(slider))
    example = box.get_by_role("slider", name="start from")
    changes(edited(page, explorer), lambda: press(example, 1))
    changes(edited(page, explorer), box.get_by_role("button", name="Random").click)


def test_the_pad_follows_the_pointer_and_the_keys(page):
    pad = page.locator(".vae-pad")
    pad.scroll_into_view_if_needed()
    changes(edited(page), lambda: pad.click(position={"x": 60, "y": 60}))
    changes(edited(page), lambda: [page.keyboard.press("ArrowRight") for _ in range(5)])


def test_a_label_button_changes_the_picture(page):
    box = page.locator(".vae-explorer").nth(2)
    for label in (5, 8):
        changes(edited(page, 2), box.get_by_role("button", name=f"label {label}").click)


PROBE = [
    """import torch
from vae_helpers.data import load_mnist, to_grey
from vae_helpers.experiments import load_released
from vae_helpers.explorer import LatentExplorer
from vae_helpers.models import VAE

x = to_grey(load_mnist(download=False).x_test[:50])
explorer = LatentExplorer(load_released("m1/z20").model, x, shape=(28, 28))
explorer""",
    "print('z is', [round(v, 2) for v in explorer.z], 'of', explorer.example)",
    "explorer.start_from(7)",
    """class Negative(VAE):
    def decode_mean(self, z):
        return 1 - super().decode_mean(z)

m = load_released("m1/z20").model
LatentExplorer(Negative(m.encoder, m.decoder, m.likelihood, m.prior).eval(), x, shape=(28, 28))""",
]


@pytest.fixture(scope="module")
def probe(browser, lab, folder):
    """A notebook of our own, run to the end."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in PROBE])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "notebooks" / "probe.ipynb")
    with run_through(browser, lab, "probe.ipynb", until=[".vae-explorer >> nth=1"], screenshot="probe.png") as found:
        yield found


def run_cell(page, n):
    """Run one cell, and wait until the kernel is idle."""
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(n).click()
    page.keyboard.press("Control+Enter")
    page.wait_for_timeout(300)
    page.get_by_text("| Idle").wait_for(timeout=30_000)


def test_python_sees_the_values_and_sets_them(probe):
    slider = probe.locator(".vae-explorer").first.locator("input[aria-label^=z]").first
    printed = probe.locator(".jp-OutputArea-output pre").filter(has_text="z is")
    before = printed.inner_text()
    changes(edited(probe), lambda: press(slider))
    probe.wait_for_timeout(400)
    run_cell(probe, 1)
    wait_until(lambda: printed.inner_text() != before, 10)
    changes(edited(probe), lambda: run_cell(probe, 2))
    probe.wait_for_timeout(400)
    run_cell(probe, 1)
    wait_until(lambda: "of 7" in printed.inner_text(), 10)
    assert probe.locator(".vae-explorer").first.get_by_role("slider", name="start from").input_value() == "7"


def test_the_kernel_draws_what_the_page_cannot_run(probe):
    box = probe.locator(".vae-explorer").nth(1)
    box.get_by_text("The page cannot run the model Negative, so the kernel draws the pictures.").wait_for(timeout=5000)
    changes(edited(probe, 1), lambda: press(box.locator("input[aria-label^=z]").first))


def test_explorers_work_after_the_kernel_was_shut_down(probe):
    probe.get_by_role("menuitem", name="Kernel", exact=True).click()
    probe.get_by_text("Shut Down Kernel", exact=True).click()
    probe.get_by_text("No Kernel").first.wait_for(timeout=30_000)
    slider = probe.locator(".vae-explorer").first.locator("input[aria-label^=z]").nth(1)
    changes(edited(probe), lambda: press(slider))


def test_one_button_moves_two_models_side_by_side(browser, lab):
    with run_through(
        browser, lab, "05_label_placement.ipynb", until=[".vae-label"], screenshot="comparison.png"
    ) as page:
        box = page.locator(".vae-explorer").first
        box.scroll_into_view_if_needed()
        changes(edited(page), lambda: press(box.locator("input[aria-label^=latent]").first))
        chosen = int(box.locator(".vae-label[aria-pressed=true]").inner_text())
        first = box.locator(".vae-view").first.locator(".vae-strip:not(.vae-small) canvas").last
        changes(first, box.get_by_role("button", name=f"label {(chosen + 3) % 10}").click)


def test_a_component_and_a_draw_from_it(browser, lab):
    with run_through(browser, lab, "06_better_priors.ipynb", until=[".vae-about"], screenshot="components.png") as page:
        box = page.locator(".vae-explorer").first
        box.scroll_into_view_if_needed()
        told = box.locator(".vae-about")
        before = told.inner_text()
        changes(edited(page), lambda: press(box.get_by_role("slider", name="component"), 3))
        assert told.inner_text() != before
        changes(edited(page), box.get_by_role("button", name="Draw from it").click)


def test_the_factor_sliders_turn_move_and_reshape_the_picture(browser, lab):
    with run_through(browser, lab, "07_warm_start.ipynb", until=[".vae-explorer"], screenshot="factors.png") as page:
        box = page.locator(".vae-explorer").first
        box.scroll_into_view_if_needed()
        truth, first = (box.locator(".vae-strip").first.locator("canvas").nth(i) for i in (0, 1))
        for factor in ("shape", "scale", "orientation", "x", "y"):
            slider = box.get_by_role("slider", name=factor, exact=True)
            changes(first, lambda slider=slider: press(slider, 3))
        changes(truth, lambda: press(box.get_by_role("slider", name="x", exact=True), 10))
        changes(first, box.get_by_role("button", name="Reset").click)


@pytest.mark.parametrize(
    ("notebook", "screenshot"), [("solutions/08_solutions.ipynb", "independent.png"), ("09_faces.ipynb", "faces.png")]
)
def test_the_latents_of_a_released_model_move(browser, lab, notebook, screenshot):
    with run_through(browser, lab, notebook, until=[".vae-explorer"], screenshot=screenshot) as page:
        box = page.locator(".vae-explorer").first
        box.scroll_into_view_if_needed()
        changes(edited(page), lambda: press(box.locator("input[aria-label^=z]").first))
        changes(edited(page), box.get_by_role("button", name="Random").click)
