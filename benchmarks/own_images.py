"""``python -m benchmarks.own_images [--n N] [--side S] [--steps K] [--format png|jpg]``: one's own pictures.

Writes N coloured pictures into a folder, then, in a fresh process each, packs them by `load_images`, opens them again
and trains a small convolutional VAE on them. Peak resident memory counts the mapped pages of the file, which the
system takes back when it needs them; "own memory" does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Table, machine
from benchmarks.processes import peak_mb

FIELDS = ("pictures/s", "peak resident, MB", "own memory, MB")


def pictures(quick: bool) -> Table:
    """Rates and memory for coloured pictures of 64 x 64 pixels, 2,000 or 100,000."""
    return measured(2_000 if quick else 100_000, side=64, steps=20 if quick else 200, suffix="jpg")


def measured(n: int, *, side: int, steps: int, suffix: str) -> Table:
    """Rates and memory for ``n`` coloured pictures, written to a temporary folder.

    Args:
        n: pictures. side: pixels of their height and width. steps: of training. suffix: png or jpg.
    """
    table = Table(f"{n:,} {suffix} pictures of {side} x {side} pixels", ["", "s", *FIELDS])
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        began = time.perf_counter()
        write(here / "pictures", n, side=side, suffix=suffix)
        table.rows.append(("write them", time.perf_counter() - began, n / (time.perf_counter() - began)))
        for words, action in (("pack them", "pack"), ("open them again", "pack"), (f"train {steps} steps", "train")):
            command = [
                sys.executable,
                "-m",
                "benchmarks.own_images",
                "--child",
                action,
                "--folder",
                str(here / "pictures"),
            ]
            environment = os.environ | {"VAE_DATA": str(here / "root"), "VAE_DEVICE": "cpu"}
            done = subprocess.run(
                [*command, "--steps", str(steps)], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"{words}: {done.stderr.strip().splitlines()[-1]}")
            seconds, count, peak, own = map(float, done.stdout.split()[-4:])
            table.rows.append((words, seconds, count / seconds, peak, own))
    table.notes.append("imports of torch and of the package are in the memory, not in the seconds")
    return table


def write(folder: Path, n: int, *, side: int, suffix: str) -> None:
    """Coloured pictures with a bright rectangle each, in ten class folders."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(n):
        label = i % 10
        below = folder / str(label)
        if i < 10:
            below.mkdir(parents=True)
        pixels = np.empty((side, side, 3), np.uint8)
        pixels[:] = generator.integers(0, 200, 3)
        top, left = generator.integers(0, side // 2, 2)
        pixels[top : top + side // 3, left : left + side // 4] = generator.integers(100, 256, 3)
        Image.fromarray(pixels).save(below / f"{i:07}.{suffix}")


def child(action: str, folder: Path, steps: int) -> None:
    """Load the pictures, train on them if told to, and print seconds, pictures and the two kinds of memory."""
    import torch

    from vae_helpers.data import Batches, load_images, to_grey
    from vae_helpers.likelihoods import Gaussian
    from vae_helpers.models import VAE
    from vae_helpers.nets import ConvDecoder, ConvEncoder
    from vae_helpers.objectives import elbo
    from vae_helpers.priors import StandardNormal
    from vae_helpers.training import fit

    began, batch_size = time.perf_counter(), 64
    images = load_images(folder)
    count = len(images.x_train) + len(images.x_test)
    if action == "train":
        torch.manual_seed(0)
        channels, height, width = images.shape
        shape = (channels, height, width)
        encoder, decoder = ConvEncoder(shape, 20, h_dim=128), ConvDecoder(10, shape, h_dim=128)
        model = VAE(encoder, decoder, Gaussian(x_var=0.5, output="sigmoid"), StandardNormal(10))
        batches = Batches(images.x_train, batch_size=batch_size, seed=0, transform=to_grey)
        began, count = time.perf_counter(), steps * batch_size
        fit(model, batches, elbo, steps=steps, progress=False)
    print(time.perf_counter() - began, count, peak_mb(), own_mb())


def own_mb() -> float:
    """Memory of this process that no file backs, MB, at this moment (Linux; elsewhere not a number)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon")) / 1024


def main() -> None:
    """Measure with the sizes given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_images", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="pictures")
    parser.add_argument("--side", type=int, default=64, help="pixels of height and width")
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg")
    parser.add_argument("--child", choices=("pack", "train"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder, arguments.steps)
        return
    print(machine())
    print(measured(arguments.n, side=arguments.side, steps=arguments.steps, suffix=arguments.format))


if __name__ == "__main__":
    main()
