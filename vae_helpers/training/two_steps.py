"""Updates of two optimiser steps: the Non-Synergistic VAE's and FactorVAE's."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.distributions import sample_normal
from vae_helpers.models import VAE
from vae_helpers.objectives import check_terms, greedy_subset
from vae_helpers.objectives.subsets import Choice
from vae_helpers.training.updates import GradientStep


class NonSynergisticStep(GradientStep):
    """Adam on the ELBO, then the same Adam on `objectives.synergy`, with the encoder run again.

    The latents are chosen by their KLs after the first step. The second step moves the encoder only: the decoder has
    no gradient there and no momentum is spent on it. The encoder always moves, by Adam's momentum, even with alpha = 0
    or no latent left out (omega = 1): under a steady gradient sqrt(2) times as far as one step of the ELBO would. So
    the control for what the penalty does is this update with alpha = 0, not the plain VAE.

    Args:
        model: a `VAE` with prior N(0, I). alpha, omega, choice: as `objectives.synergy`.
        options: lr, bf16, compiled, decay_steps of `GradientStep`.

    Raises:
        ValueError: for an alpha, an omega or a step size out of range.

    Source: Barrientos & Sootla 2019, algorithm 1.
    """

    def __init__(
        self, model: VAE, *, alpha: float, omega: float, choice: Choice = greedy_subset, **options: Any
    ) -> None:
        objectives.check_weights(alpha=alpha)
        choice(torch.ones(model.z_dim), omega=omega)
        super().__init__(model, objectives.elbo, **options)
        self.penalty = partial(objectives.synergy, model, alpha=alpha, omega=omega, choice=choice)

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Two steps; returns the means of the ELBO's terms, and of the synergy's beside them."""
        terms = super().__call__(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            penalty = self.penalty(batch)
        check_terms(penalty, len(batch))
        penalty["loss"].mean().backward()
        self.optimizer.step()
        return {**terms, **{name: penalty[name].mean().detach() for name in ("synergy_loss", "n_kept")}}


class FactorVAEStep(GradientStep):
    """Adam on `objectives.factor_vae` for the model, then Adam on `objectives.discrimination` for the discriminator.

    A batch has 2B examples: the model learns from the first half; the discriminator tells their codes, encoded anew,
    from permuted codes of the second half. Each step moves its own parameters only.

    Args:
        model: a `VAE`. discriminator: codes (B, Z) -> logits (B, 1). gamma: weight of the total correlation, >= 0.
        discriminator_lr: its step size, > 0, which does not decay; its Adam has betas .5 and .9.
        options: lr, bf16, compiled, decay_steps of `GradientStep`.

    Raises:
        ValueError: for a step size that is not positive; at the first step, for gamma < 0 or an odd batch.

    Source: Kim & Mnih 2018, algorithm 2 and appendix A.
    """

    model: VAE

    def __init__(
        self, model: VAE, discriminator: nn.Module, *, gamma: float, discriminator_lr: float = 1e-4, **options: Any
    ) -> None:
        if not discriminator_lr > 0:
            raise ValueError(f"discriminator_lr must be positive, got {discriminator_lr}")
        super().__init__(model, partial(_factor_vae, discriminator=discriminator, gamma=gamma), **options)
        self.discriminator = discriminator
        capturable = self.device.type == "cuda"
        self.discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=discriminator_lr, betas=(0.5, 0.9), fused=self.fused, capturable=capturable
        )

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        """Two steps; returns the means of the terms of both."""
        if len(batch) % 2:
            raise ValueError(f"FactorVAE needs batches of an even number of examples, got {len(batch)}")
        x = batch[: len(batch) // 2]
        self.discriminator.requires_grad_(False)  # saves the gradients that would only be thrown away
        try:
            terms = super().__call__(x)
        finally:
            self.discriminator.requires_grad_(True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            with torch.no_grad():
                z, z_others = sample_normal(*self.model.encode(batch)).chunk(2)
            found = objectives.discrimination(self.discriminator, z, objectives.permuted(z_others))
        check_terms(found, len(x))
        found["loss"].mean().backward()
        self.discriminator_optimizer.step()
        return {**terms, "discriminator_loss": found["discriminator_loss"].mean().detach()}

    def state_dict(self) -> dict[str, Any]:
        """Both nets and both optimisers."""
        return {
            **super().state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        super().load_state_dict(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])


def _factor_vae(model: VAE, x: Tensor, *, discriminator: nn.Module, gamma: float) -> objectives.Terms:
    return objectives.factor_vae(model, discriminator, x, gamma=gamma)
