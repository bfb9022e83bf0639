"""Notebook cells run twice, out of order, and interrupted, in a kernel as JupyterLab starts it."""

import contextlib
import functools
import os
import random
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATIENCE_S = 300


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """(client, manager) of a kernel at the smoke budget, whose runs go to a folder of the tests."""
    with started(tmp_path_factory.mktemp("kernel")) as made:
        yield made


@contextlib.contextmanager
def started(folder):
    own = {"VAE_BUDGET": "smoke", "VAE_OFFLINE": "1", "VAE_DEVICE": "cpu", "VAE_RUNS": str(folder / "runs")}
    environment = os.environ | own | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT / "notebooks"), env=environment)
    try:
        yield client, manager
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def said(client, source):
    """What a cell printed; an error of the cell is an error of the test."""
    words = []

    def hear(message):
        if message["msg_type"] == "stream":
            words.append(message["content"]["text"])

    reply = client.execute_interactive(source, timeout=PATIENCE_S, output_hook=hear, allow_stdin=False)["content"]
    assert reply["status"] == "ok", source + "\n" + "\n".join(reply["traceback"])
    return "".join(words)


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_again(notebook, tmp_path):
    """the cells of a notebook in their order, and then all of them again in another one"""
    cells = [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    seed = random.randrange(1000)
    print(f"order of seed {seed}")
    with started(tmp_path) as (client, _):
        for source in cells:
            said(client, source)
        random.Random(seed).shuffle(cells)
        for source in cells:
            said(client, source)


CELLS = {
    "run": """
from vae_helpers.experiments import gaussians
found = gaussians.run(gaussians.GaussiansConfig(steps=1500), seed=0, progress=False).metrics
""",
    "train into a folder": """
import vae_helpers as vh
folder = Path(os.environ["VAE_RUNS"]) / "mine"
found = vh.train("gaussians", steps=1500, folder=folder, resume=True, progress=False).metrics
""",
    "sweep": """
from vae_helpers.experiments.sweep import sweep
table = sweep("gaussians", {"steps": [700, 800]}, seeds=[0], progress=False)
found = table.filter(like="test_").to_dict("list")
""",
}
AFRESH = "import os, shutil; from pathlib import Path; shutil.rmtree(os.environ['VAE_RUNS'], ignore_errors=True)"


@pytest.fixture(scope="module")
def undisturbed(kernel):
    """What a cell says that nothing interrupts, and how long it takes once its imports are done."""

    @functools.cache
    def of(kind):
        for _ in range(2):
            said(kernel[0], AFRESH)
            began = time.monotonic()
            whole = said(kernel[0], CELLS[kind] + "print(found)")
        return whole, time.monotonic() - began

    return of


@pytest.mark.long
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", CELLS)
def test_interrupted(kind, number, kernel, undisturbed):
    """a training cell that is interrupted, and run again: the numbers of one that was not"""
    (client, manager), (whole, took) = kernel, undisturbed(kind)
    said(client, AFRESH)
    delay = random.uniform(0, took)
    print(f"interrupted after {delay:.3f} of {took:.3f} s")
    message = client.execute(CELLS[kind])
    time.sleep(delay)
    manager.interrupt_kernel()
    reply = client.get_shell_msg(timeout=PATIENCE_S)
    while reply["parent_header"].get("msg_id") != message:
        reply = client.get_shell_msg(timeout=PATIENCE_S)
    assert reply["content"]["status"] == "ok" or reply["content"]["ename"] == "KeyboardInterrupt", reply["content"]
    assert said(client, CELLS[kind] + "print(found)") == whole
