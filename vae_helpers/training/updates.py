"""One optimisation step: for one objective, a rising capacity or beta, and labelled and unlabelled batches together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vae_helpers import objectives
from vae_helpers.data import TwoBatches
from vae_helpers.models import M2, VAE
from vae_helpers.objectives import Terms, check_terms

Objective = Callable[[Any, Any], Terms]
UnlabelledObjective = Callable[[Any, Tensor], Terms]


class Update(Protocol):
    """One optimisation step on one batch, with everything it owns in its state.

    Calling it takes a batch and returns scalar tensors by name, with no host synchronisation inside
    (on CUDA it is captured into a graph). `GradientStep` is the usual one; a model with two
    optimisers or two batches brings its own.
    """

    model: nn.Module

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Change the parameters once; return the batch means of the terms, detached."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimisers."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""


class GradientStep:
    """theta <- Adam(theta, grad of mean(loss)): the update for one objective and one optimiser.

    Args:
        model: what is trained. objective: (model, batch) -> per-example terms with a ``loss``.
        lr: Adam's step size, > 0.
        bf16: run the matrix products in bfloat16 (the densities stay float32).
        compiled: compile the objective with torch.compile (half a minute once; needs a C++ compiler on a CPU).
        decay_steps: let the step size fall linearly to zero over the second half of so many steps; 0 keeps it.

    Raises:
        ValueError: if ``lr`` is not positive or ``decay_steps`` negative.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        lr: float = 1e-3,
        bf16: bool = False,
        compiled: bool = False,
        decay_steps: int = 0,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr must be positive, got {lr}")
        if decay_steps < 0:
            raise ValueError(f"decay_steps must not be negative, got {decay_steps}")
        self.model, self.bf16 = model, bf16
        self.objective: Objective = torch.compile(objective) if compiled else objective
        self.device = next(model.parameters()).device
        self.fused = self.device.type in ("cpu", "cuda")
        self.lr, self.decay_steps = lr, decay_steps
        self.taken = torch.zeros((), device=self.device)  # a tensor, so that a captured step counts too
        rate = torch.tensor(lr, device=self.device) if decay_steps else lr
        capturable = self.device.type == "cuda"
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=self.fused, capturable=capturable)

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """One step; returns the mean of each term."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            means = self.means(batch)
        means["loss"].backward()
        if self.decay_steps:
            share_left = (1 - self.taken / self.decay_steps).clamp(0, 1)
            self.optimizer.param_groups[0]["lr"].copy_(self.lr * (2 * share_left).clamp_max(1))
        self.taken += 1
        self.optimizer.step()
        return {name: value.detach() for name, value in means.items()}

    def means(self, batch: Any) -> dict[str, Tensor]:
        """The batch mean of each term; ``loss`` is what the step descends."""
        terms = self.objective(self.model, batch)
        check_terms(terms, len(batch if isinstance(batch, Tensor) else batch[0]))
        return {name: value.mean() for name, value in terms.items()}

    def autocast(self) -> torch.autocast:
        """The precision of the matrix products, as a context."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and the steps taken."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.taken.copy_(state.get("taken", torch.zeros(())))  # older checkpoints had no decay to count for
        if self.decay_steps:
            group = self.optimizer.param_groups[0]
            group["lr"] = group["lr"].to(self.device)


class CapacityStep(GradientStep):
    """Adam on `objectives.capacity_elbo`, its capacity rising in a line from 0 to a last value.

    Args:
        model: a `VAE`. gamma: weight, >= 0. capacity: the last value, nats, >= 0. rising_steps: until it is reached.
        options: lr, bf16, compiled, decay_steps of `GradientStep`.

    Raises:
        ValueError: for a weight out of range or ``rising_steps`` below 1.

    Source: Burgess et al. 2018, section 4.
    """

    def __init__(self, model: VAE, *, gamma: float, capacity: float, rising_steps: int, **options: Any) -> None:
        objectives.check_weights(gamma=gamma, capacity=capacity)
        _check_rising(rising_steps)

        def objective(model: VAE, x: Tensor) -> objectives.Terms:
            now = capacity * (self.taken / rising_steps).clamp_max(1)
            return objectives.capacity_elbo(model, x, gamma=gamma, capacity=now)

        super().__init__(model, objective, **options)


class WarmUpStep(GradientStep):
    r"""Adam on `objectives.elbo`, its beta rising in a line: :math:`\beta_t = \beta \min(1, t / \text{rising\_steps})`.

    Args:
        model: a `VAE`. beta: the last value, >= 0. rising_steps: until it is reached.
        options: lr, bf16, compiled, decay_steps of `GradientStep`.

    Raises:
        ValueError: for a beta below 0 or ``rising_steps`` below 1.

    Source: Bowman et al. 2016, section 3.1 (an S-curve there); Sønderby et al. 2016, *Ladder variational
    autoencoders* ("warm-up").
    """

    def __init__(self, model: VAE, *, beta: float, rising_steps: int, **options: Any) -> None:
        objectives.check_weights(beta=beta)
        _check_rising(rising_steps)

        def objective(model: VAE, x: Tensor) -> objectives.Terms:
            return objectives.elbo(model, x, beta=beta * (self.taken / rising_steps).clamp_max(1))

        super().__init__(model, objective, **options)


def _check_rising(rising_steps: int) -> None:
    if rising_steps < 1:
        raise ValueError(f"rising_steps must be at least 1, got {rising_steps}")


class SemiSupervisedStep(GradientStep):
    """One step on `objectives.total_loss`, from a labelled and an unlabelled batch.

    Args:
        model: an `M2` (or `ADGM`).
        n_labelled, n_unlabelled, alpha: as `objectives.total_loss`. unlabelled: (model, x) -> terms.
        options: lr, bf16, compiled, decay_steps of `GradientStep`.

    Raises:
        ValueError: at the first step, for an alpha or a count out of range; for ``lr`` at once.
    """

    def __init__(
        self,
        model: M2,
        *,
        n_labelled: int,
        n_unlabelled: int,
        alpha: float,
        unlabelled: UnlabelledObjective = objectives.unlabelled,
        **options: Any,
    ) -> None:
        super().__init__(model, unlabelled, **options)
        self.labelled: Any = torch.compile(objectives.labelled) if options.get("compiled") else objectives.labelled
        self.weights = {"n_labelled": n_labelled, "n_unlabelled": n_unlabelled}
        self.alpha = alpha

    def means(self, batch: TwoBatches) -> dict[str, Tensor]:
        """Means of the unlabelled batch's terms, the labelled batch's bound and log q(y|x), and the total loss."""
        (x, y), x_unlabelled = batch
        labelled = self.labelled(self.model, x, y)
        unlabelled = self.objective(self.model, x_unlabelled)
        check_terms(labelled, len(x))
        check_terms(unlabelled, len(x_unlabelled))
        loss = objectives.total_loss(labelled, unlabelled, alpha=self.alpha, **self.weights)
        shown = {**unlabelled, "labelled_bound": labelled["labelled_bound"], "log_qy": labelled["log_qy"]}
        return {**{name: value.mean() for name, value in shown.items()}, "loss": loss}
