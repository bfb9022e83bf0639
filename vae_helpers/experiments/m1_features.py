"""Features of a released M1: what a semi-supervised method sees in place of pixels, and a support vector machine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from vae_helpers.data import PIXELS, to_grey
from vae_helpers.distributions import sample_normal
from vae_helpers.evaluation import Accuracy, aggregate_posterior
from vae_helpers.evaluation.collapse import ACTIVE_VARIANCE
from vae_helpers.experiments.job import Job
from vae_helpers.experiments.run import Run, provenance
from vae_helpers.models import VAE
from vae_helpers.training import History
from vae_helpers.training.budget import describe_device


@dataclass(frozen=True)
class View:
    """What a method sees of uint8 pixels (B, D): pixels or the features of an M1.

    Args:
        trained: for training, with fresh binarisation (and a fresh sample of the features).
        measured: for measuring accuracy, from grey levels (and the mean of the features).
        source: whose features, in words; empty for pixels.
    """

    trained: Callable[[Tensor], Tensor]
    measured: Callable[[Tensor], Tensor]
    source: str = ""

    @classmethod
    def of_pixels(cls, pixels: str = "dynamic") -> View:
        """The pixels themselves, (B, D): binarised anew, or grey levels."""
        return cls(PIXELS[pixels], to_grey)

    @classmethod
    def of_features(cls, m1: VAE, latents: Sequence[int] = ()) -> View:
        """The codes of an M1, (B, Z), or some of their latents; its parameters are held from now on.

        Raises:
            ValueError: for a latent that the M1 does not have.
        """
        m1.requires_grad_(False)
        if unknown := [j for j in latents if not 0 <= j < m1.z_dim]:
            raise ValueError(f"the M1 has latents 0 to {m1.z_dim - 1}; it has no {', '.join(map(str, unknown))}")
        device = next(m1.parameters()).device
        kept = torch.tensor(latents or range(m1.z_dim), device=device)

        weights = safetensors.torch.save({key: value.cpu() for key, value in m1.state_dict().items()})

        def trained(x: Tensor) -> Tensor:
            return sample_normal(*m1.encode(PIXELS["dynamic"](x)))[..., kept]

        def measured(x: Tensor) -> Tensor:
            return m1.encode(to_grey(x))[0][..., kept]

        source = f"features of an M1 whose weights have sha256 {hashlib.sha256(weights).hexdigest()[:16]}"
        return cls(trained, measured, source)


def load_m1(name: str, x_dim: int) -> VAE:
    """The M1 whose features are used: a released name, or a run folder.

    Raises:
        KeyError: for an unknown name. ValueError: for one that is no VAE of images of ``x_dim`` pixels, or has no
            weights.
    """
    from vae_helpers.experiments.released import load_any

    model = load_any(name).model
    if not isinstance(model, VAE) or model.encoder.in_dim != x_dim:
        raise ValueError(
            f"m1={name!r} is no VAE of these images, {x_dim} pixels each, with weights; "
            "train one (python -m vae_helpers train m1 --data ...) and give its run folder"
        )
    return model


def active_latents(m1: VAE, x: Tensor) -> tuple[int, ...]:
    """The latents whose posterior mean moves with the images, uint8 pixels (N, D): see `evaluation.active_units`.

    Raises:
        ValueError: if there is none.
    """
    active = aggregate_posterior(m1, to_grey(x)).mu_variance > ACTIVE_VARIANCE
    if not active.any():
        raise ValueError(f"all {m1.z_dim} latents of this M1 are collapsed: no feature says anything; train another")
    return tuple(active.nonzero().flatten().tolist())


def run_svm(job: Job, view: View, labelled: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], pixels: str) -> Run:
    """Fit a support vector machine to labelled images; C is chosen by cross-validation on them alone.

    Args:
        job: of an `m2.M2Config`, whose ``svm_kernel`` is used. view: of the images. labelled, test: uint8 pixels (N, D)
            and classes (N,). pixels: what was made of them, in words.

    Returns:
        a `Run` of study ``m2``.
    """
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    began = time.perf_counter()
    with torch.inference_mode():
        features = [view.measured(x).cpu().numpy() for x in (labelled[0], test[0])]
    y_labelled, y_test = (y.cpu().numpy() for y in (labelled[1], test[1]))
    model = GridSearchCV(SVC(kernel=job.config.svm_kernel), {"C": [0.1, 1.0, 10.0, 100.0]}, cv=5)
    model.fit(features[0], y_labelled)
    seconds = time.perf_counter() - began
    found = Accuracy.of(torch.from_numpy(model.predict(features[1]) == y_test))
    metrics = {
        "test_accuracy_percent": found.percent,
        "test_accuracy_standard_error_percent": found.standard_error,
        "labelled_accuracy_percent": 100 * float((model.predict(features[0]) == y_labelled).mean()),
        "svm_C": float(model.best_params_["C"]),
    }
    where, data = provenance(describe_device(torch.device("cpu"))), f"{job.data.source}; {pixels}"
    return job.finished(0, metrics, model, History(), data=data, seconds=seconds, provenance=where, measured=where)
