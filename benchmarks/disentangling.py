"""One training step of each objective of study ``nonsyn`` on dSprites."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure import Table, interleaved, paired_ratio
from vae_helpers.experiments import nonsyn
from vae_helpers.experiments.nonsyn import METHODS, ImageBatches, NonSynConfig

AT_ONCE = 5  # steps a timing


def steps_per_second(quick: bool) -> Table:
    """Rate of each method, images drawn anew for each step, and its ratio to the plain VAE's."""
    images = nonsyn.images_of("dsprites")

    def stepper(method: str, *, bf16: bool) -> Callable[[], None]:
        config = NonSynConfig(method=method, steps=1000, rising_steps=500, bf16=bf16)
        torch.manual_seed(0)
        update = nonsyn.update_of(config, nonsyn.build(config), n_data=images.grid.n_images)
        batches = ImageBatches(images, batch_size=nonsyn.images_a_step(config), seed=0)

        def run() -> None:
            for _ in range(AT_ONCE):
                update(batches.take(batches.draw()))

        return run

    runs = {f"{method}, bf16": stepper(method, bf16=True) for method in METHODS}
    runs["vae, float32"] = stepper("vae", bf16=False)
    for run in runs.values():
        run()
    seconds = interleaved(runs, rounds=3 if quick else 10)
    table = Table(f"dSprites, batch of {NonSynConfig().batch_size}", ["", "steps/s", "of the VAE's rate, %"])
    for name, found in seconds.items():
        rate = AT_ONCE / sorted(found)[len(found) // 2]
        table.rows.append((name, round(rate, 1), round(100 * paired_ratio(seconds["vae, bf16"], found))))
    table.notes.append("FactorVAE encodes three batches a step, and trains a discriminator of 6 x 1000 units")
    return table
