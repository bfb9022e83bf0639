"""Drawing dSprites beside training on them."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measure import Table, interleaved, paired_ratio
from vae_helpers.experiments import sprites, supervised, warm_start
from vae_helpers.experiments.supervised import CodeBatches, SupervisedConfig
from vae_helpers.experiments.warm_start import WarmStartConfig
from vae_helpers.training import GradientStep

AT_ONCE = 10  # batches a timing


def rendering(quick: bool) -> Table:
    """Milliseconds of drawing a batch, and of a training step with it; the share is the median over rounds."""
    config = SupervisedConfig()
    images = sprites.images_of("rendered")
    batches = CodeBatches(sprites.CODES[config.code], images, batch_size=config.batch_size, seed=0)
    torch.manual_seed(0)
    taught: Any = supervised.build(config)
    alone: Any = warm_start.build(WarmStartConfig())

    def repeat(act: Any) -> Any:
        def run() -> None:
            for _ in range(AT_ONCE):
                act(batches.take(batches.draw()))

        return run

    runs = {"draw": repeat(lambda batch: None)}
    for bf16 in (True, False):
        word = "bf16" if bf16 else "float32"
        runs[f"supervised step, {word}"] = repeat(GradientStep(taught, supervised.objective, bf16=bf16))
        runs[f"ELBO step, {word}"] = repeat(GradientStep(alone, warm_start.elbo, bf16=bf16))
    for run in runs.values():
        run()
    seconds = interleaved(runs, rounds=3 if quick else 10)
    table = Table(f"dSprites, batch of {config.batch_size}", ["", "ms", "share of drawing, %"])
    for name, found in seconds.items():
        share = "" if name == "draw" else round(100 * paired_ratio(seconds["draw"], found), 1)
        table.rows.append((name, 1e3 * sorted(found)[len(found) // 2] / AT_ONCE, share))
    table.notes.append("a step includes drawing its batch")
    return table
