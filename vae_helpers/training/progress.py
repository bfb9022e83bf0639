"""One display of progress that updates in place: HTML in a notebook, tqdm in a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

SECONDS_BETWEEN = 0.5


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """Step, terms, rate and time left of one run.

    Args:
        total: last step. start: step already reached (a resumed run). enabled: False shows nothing.
        title: what is being trained. unit: what is counted.
    """

    def __init__(
        self, total: int, *, start: int = 0, enabled: bool = True, title: str = "", unit: str = "step"
    ) -> None:
        self.total, self.start, self.title, self.unit = total, start, title, unit
        self.began = self.shown = time.monotonic()
        self._handle: Any = None
        self._bar: Any = None
        if not enabled:
            return
        if _in_notebook():
            from IPython.display import display

            self._handle = display(_Line(f"{title} starting"), display_id=True)
        else:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=title or None, unit=unit, disable=None)

    def update(self, step: int, terms: dict[str, float], *, final: bool = False, note: str = "") -> None:
        """Show this state, at most twice a second; the last one always."""
        now = time.monotonic()
        if not final and now - self.shown < SECONDS_BETWEEN:
            return
        self.shown = now
        values = "  ".join(f"{name} {value:.2f}" for name, value in terms.items())
        if self._bar is not None:
            self._bar.set_postfix_str(values, refresh=False)
            self._bar.update(step - self._bar.n)
            if final:
                self._bar.close()
                if note:
                    print(note)
        if self._handle is not None:
            rate = (step - self.start) / max(now - self.began, 1e-9)
            left = f", {(self.total - step) / max(rate, 1e-9):.0f} s left" if not final else ""
            speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
            at = f"{self.title} {self.unit} {step:,}/{self.total:,}"
            self._handle.update(_Line(f"{at}  {values}  ({speed} {self.unit}s/s{left}) {note}".strip()))

    def write(self, line: str) -> None:
        """Print a line above the bar of a terminal."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self._handle is not None:
            print(line)


class _Line:
    """One line of text that a notebook shows in a fixed-width face."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
