"""Chromium without a window, for all browser tests."""

import pytest
from chromium import CHROMIUM, FLAGS


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    if CHROMIUM is None:
        pytest.fail("Chromium is not installed: on Debian, apt-get install chromium; then make test-browser again")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
