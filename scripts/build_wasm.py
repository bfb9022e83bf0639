"""Assemble vae_helpers/page/doubling.wat into static/decoder.js: ``python scripts/build_wasm.py``."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import wasmtime

PAGE = Path(__file__).resolve().parents[1] / "vae_helpers" / "page"
DECODER = PAGE / "static" / "decoder.js"


def with_module(text: str) -> str:
    """The decoder's text with the assembled module as its ``FOUR_PIXELS``."""
    code = base64.b64encode(wasmtime.wat2wasm((PAGE / "doubling.wat").read_text(encoding="utf-8"))).decode()
    new, found = re.subn(r'(?<=^const FOUR_PIXELS = ")[^"]*', code, text, flags=re.M)
    if found != 1:
        raise ValueError(f"{DECODER} must hold the line: const FOUR_PIXELS = ...")
    return new


if __name__ == "__main__":
    DECODER.write_text(with_module(DECODER.read_text(encoding="utf-8")), encoding="utf-8")
