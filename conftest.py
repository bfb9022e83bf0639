"""Notebooks as tests: the smoke budget, no network, one failing cell a notebook."""

import os
import tempfile

import nbval.kernel
import pytest
import zmq
from jupyter_client.manager import KernelManager

os.environ.setdefault("VAE_BUDGET", "smoke")
os.environ.setdefault("VAE_OFFLINE", "1")
if "VAE_RUNS" not in os.environ:  # a notebook must not find yesterday's runs
    _runs = tempfile.TemporaryDirectory(prefix="vae-runs-")
    os.environ["VAE_RUNS"] = _runs.name
if os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two kernels on two cores must not fight


def pytest_addoption(parser):
    parser.addoption("--torture", action="store_true", help="try every case of tests/torture, not a sample of each")
    parser.addoption("--torture-table", metavar="FILE", help="write the counts into this page, between its marks")


class UncappedKernelManager(KernelManager):
    """nbval reads nothing while a cell runs; without this, a chatty cell's messages are dropped."""

    def client(self, **kwargs):
        context = zmq.Context()
        context.setsockopt(zmq.RCVHWM, 0)
        return super().client(context=context, **kwargs)


nbval.kernel.KernelManager = UncappedKernelManager


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed and item.nodeid.split("::")[0].endswith(".ipynb"):
        item.parent.first_failure = item.name
    return report


def pytest_runtest_setup(item):
    failed = getattr(item.parent, "first_failure", None)
    if failed:
        pytest.skip(f"{failed} of this notebook failed")
