"""Training the conditional convolutional VAE of `experiments.conditional`: memory layouts and bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Table
from benchmarks.peers import Contender
from benchmarks.processes import rate_table
from vae_helpers.data import Images, LabelledBatches, load_mnist, to_grey
from vae_helpers.experiments import conditional
from vae_helpers.nets import CropDecoder
from vae_helpers.objectives import conditional_elbo
from vae_helpers.training import GradientStep, fit

OURS = "channels last, bf16"


class ChannelsFirst(CropDecoder):
    """The same net as usually written: the features laid out map by map."""

    def forward(self, h: Tensor) -> Tensor:
        """h (..., in_dim) -> (..., channels*784)."""
        grid = self.stem(h.reshape(-1, h.shape[-1])).reshape(-1, self.GRID[-1], *self.GRID[:-1])
        return self.deconv(grid)[..., :28, :28].reshape(*h.shape[:-1], -1)


def ours(images: Images, *, bf16: bool, channels_last: bool) -> Contender:
    """`training.fit` on the study's default model."""
    config = conditional.ConditionalConfig(bf16=bf16)
    torch.manual_seed(0)
    model: Any = conditional.build(config)
    if not channels_last:
        model.to(memory_format=torch.contiguous_format)
        model.decoder.net.__class__ = ChannelsFirst
    batches = LabelledBatches(images.x_train, images.y_train, batch_size=config.batch_size, seed=0, transform=to_grey)
    update = GradientStep(model, lambda model, batch: conditional_elbo(model, *batch), lr=config.lr, bf16=bf16)
    return Contender(model, lambda n: fit(model, batches, update=update, steps=n, progress=False))


CONTENDERS: dict[str, tuple[str, Any]] = {
    OURS: ("", lambda images: ours(images, bf16=True, channels_last=True)),
    "channels last": ("", lambda images: ours(images, bf16=False, channels_last=True)),
    "channels first, bf16": ("", lambda images: ours(images, bf16=True, channels_last=False)),
    "channels first": ("", lambda images: ours(images, bf16=False, channels_last=False)),
}


def steps_per_second(quick: bool) -> Table:
    """Every contender's rate."""
    load_mnist()  # fetched or announced once, before the processes start
    seconds, rounds = (2, 2) if quick else (4, 5)
    title = f"conditional convolutional VAE, batch {conditional.ConditionalConfig().batch_size}"
    return rate_table(title, __name__, CONTENDERS, ours=OURS, seconds=seconds, rounds=rounds)[0]
