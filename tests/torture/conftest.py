"""Torture: many cases a test; `make torture` tries all, `make test` a sample of each. Counts go to a table."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
SAMPLE = 1  # cases of each test without --torture
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]  # the harness needs its limits and signals
START, END = "<!-- counts -->", "<!-- /counts -->"


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a case takes ten seconds or more; none is in the sample")


def pytest_collection_modifyitems(config, items):
    """Keep a sample, spread over the cases of each test; note what each test tries."""
    of_test = {}
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        of_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
        words = " ".join((item.function.__doc__ or item.originalname).split()).rstrip(".").replace("|", "\\|")
        item.user_properties.append(("torture", words))
    if config.getoption("--torture"):
        return
    short = [cases for cases in of_test.values() if cases[0].get_closest_marker("long") is None]
    kept = {id(item) for cases in short for item in cases[:: -(-len(cases) // SAMPLE)]}
    dropped = {item for item in ours if id(item) not in kept}
    items[:] = [item for item in items if item not in dropped]
    if dropped:
        config.hook.pytest_deselected(items=list(dropped))


def pytest_runtest_logreport(report):
    """On the process that prints: one count a case."""
    words = dict(report.user_properties).get("torture")
    if words is None or not (report.when == "call" or report.failed or report.skipped):
        return
    counts = COUNTS.setdefault((report.nodeid.split("::")[0].rpartition("/")[2], words), Counter())
    counts[report.nodeid] = max(counts[report.nodeid], {"passed": 1, "skipped": 2, "failed": 3}[report.outcome])


COUNTS: dict[tuple[str, str], Counter] = {}


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--torture") or not COUNTS:
        return
    text = table()
    terminalreporter.section("torture")
    terminalreporter.write_line(text)
    if (target := config.getoption("--torture-table")) is not None:
        page = Path(target)
        before, _, rest = page.read_text().partition(START)
        page.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}")


def table() -> str:
    """Tried and passed, a row for each test."""
    rows, total = ["| what | tried | right |", "|---|---|---|"], Counter()
    for (file, words), cases in sorted(COUNTS.items()):
        tried = sum(1 for outcome in cases.values() if outcome != 2)
        passed = sum(1 for outcome in cases.values() if outcome == 1)
        total += Counter(tried=tried, passed=passed)
        kind = file.removeprefix("test_torture_").removesuffix(".py")
        rows.append(f"| {kind}: {words} | {tried:,} | {passed:,} |")
    return "\n".join([*rows, f"| **all** | **{total['tried']:,}** | **{total['passed']:,}** |"])


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A file of 300 small pictures of ten classes."""
    generator = np.random.default_rng(0)
    y = np.arange(300) % 10
    x = generator.integers(0, 60, (300, 28, 28), dtype=np.uint8)
    for image, label in zip(x, y, strict=True):
        image[2 * label + 2 : 2 * label + 6, 6:22] += 180
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    path.parent.chmod(0o755)  # for processes without root's rights
    np.savez(path, images=x, labels=y)
    return path
