"""Training the VAE of `experiments.m1` with a mixture of 500 Gaussians as prior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from benchmarks import training
from benchmarks.measure import Table
from benchmarks.peers import BATCH, Contender
from vae_helpers import objectives
from vae_helpers.data import Batches, binarise, load_mnist
from vae_helpers.experiments import m1
from vae_helpers.priors import MixturePrior
from vae_helpers.training import GradientStep, fit

K, TARGET_NELBO = 500, 93.5
OURS = "training.fit"


class PlainMixture(MixturePrior):
    """The same density by torch.distributions, through a tensor of all differences, (B, K, Z)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z); z (..., Z) -> (...), nats."""
        p_mu, p_logvar = self.components()
        components = Independent(Normal(p_mu, torch.exp(0.5 * p_logvar)), 1)
        return MixtureSameFamily(Categorical(logits=self.weight_logits), components).log_prob(z)


def contender(*, bf16: bool = False, plain: bool = False) -> Contender:
    """`training.fit` on the study's model with K components."""
    images = load_mnist()
    torch.manual_seed(0)
    model = m1.build(m1.M1Config(prior="mixture", n_components=K))
    if plain:
        model.prior.__class__ = PlainMixture
    update = GradientStep(model, objectives.elbo, bf16=bf16)
    batches = Batches(images.x_train, batch_size=BATCH, seed=0, transform=binarise)
    return Contender(model, lambda n: fit(model, batches, update=update, steps=n, progress=False))


def equal_nelbo(quick: bool) -> Table:
    """Seconds until the test NELBO is reached."""
    contenders = {
        OURS: contender(),
        f"{OURS}, bf16": contender(bf16=True),
        "the density by torch.distributions": contender(plain=True),
    }
    target = training.EASY_NELBO if quick else TARGET_NELBO
    return training.nelbo_table(f"with a mixture of {K}", contenders, load_mnist(), ours=OURS, target=target)
