"""Where Chromium is, and what the browser tests share."""

import shutil
import time

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
# a picture's pixels as one string: of a canvas, or of an image that is drawn on one
PIXELS = """of => {
    if (of instanceof HTMLCanvasElement) return of.toDataURL();
    const c = document.createElement('canvas');
    c.width = of.naturalWidth; c.height = of.naturalHeight;
    c.getContext('2d').drawImage(of, 0, 0);
    return c.toDataURL();
}"""


def wait_until(condition, seconds=60.0):
    """Wait until ``condition()`` is true; a server that does not answer yet is waited for."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"did not happen within {seconds:.0f} s"
        time.sleep(0.05)


def changes(picture, act, seconds=10):
    """Do ``act`` and wait until the picture's pixels are others."""
    before = picture.evaluate(PIXELS)
    act()
    wait_until(lambda: picture.evaluate(PIXELS) != before, seconds)
