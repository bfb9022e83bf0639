r"""Bounds with a label: observed, summed over, or sampled. Per example, in nats.

A labelled example has the bound :math:`L(x, y) \le \log p(x, y)`, an unlabelled one
:math:`U(x) = \sum_y q(y|x)\,L(x, y) + H(q(y|x)) \le \log p(x)`; `total_loss` puts a data set together.
(The paper minimises the negatives of both.)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_helpers.distributions import log_normal, sample_normal
from vae_helpers.models import ADGM, M2, Classifier
from vae_helpers.objectives.bounds import Terms, check_batch, check_weights


def classification(model: Classifier, x: Tensor, y: Tensor) -> Terms:
    """The supervised objective, log q(y | x).

    Args:
        model: a `Classifier` (M2 is one; of ADGM, one sample of a is drawn). x: (B, D). y: (B,) int64, 0 <= y < K.

    Returns:
        dict of (B,), nats, not reduced: ``log_qy`` <= 0 and ``loss`` = -log_qy.

    Raises:
        ValueError: for labels out of range or another shape, or x that is no batch of flat examples.
    """
    check_batch(x)
    check_labels(y, batch_size=len(x), n_classes=model.n_classes)
    log_qy = model.classify(_infer(model, x)[0]).log_softmax(-1)
    log_qy = log_qy.gather(-1, y[:, None]).squeeze(-1)
    return {"loss": -log_qy, "log_qy": log_qy}


def labelled(model: M2, x: Tensor, y: Tensor) -> Terms:
    r"""One-sample bound on log p(x, y), :math:`E_q[\log p(x|y,z)] + \log p(y) - \mathrm{KL}[q(z|x,y) \| p(z)]`.

    For an `ADGM`, :math:`\log p(a|x,y,z) - \log q(a|x)` is added, with a drawn from q(a | x).

    Args:
        model: an `M2`. x: (B, D). y: (B,) int64, 0 <= y < K.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``labelled_bound``, the classifier's ``log_qy``
        (no part of the bound: `total_loss` weighs it) and ``loss`` = -labelled_bound.

    Raises:
        ValueError: as `classification`.

    Source: Kingma et al. 2014, equation 6; ADGM: Maaløe et al. 2016, equation 7.
    """
    check_batch(x)
    check_labels(y, batch_size=len(x), n_classes=model.n_classes)
    x_in, a, log_qa = _infer(model, x)
    one_hot = torch.eye(model.n_classes, dtype=x.dtype, device=x.device)[y]
    terms = _given_label(model, x, x_in, a, one_hot)
    bound = terms.pop("bound") - log_qa
    log_qy = model.classify(x_in).log_softmax(-1).gather(-1, y[:, None]).squeeze(-1)
    return {"loss": -bound, **terms, "labelled_bound": bound, "log_qy": log_qy}


def unlabelled(model: M2, x: Tensor, *, view: Tensor | None = None, eps: Tensor | None = None) -> Terms:
    r"""One-sample bound on log p(x), :math:`\sum_y q(y|x)\,L(x, y) + H(q(y|x))`, all K labels in one pass.

    The labels are a leading axis of y alone, so first layers multiply x once, not K times. One noise
    vector serves all labels of an example: each L(x, y) keeps its distribution, and their differences,
    which teach the classifier, lose most of their noise.

    Args:
        model: an `M2` (or a `GMVAE`). x: (B, D).
        view: (B, D), what the classifier reads in the place of x: another picture of the same things. Any q(y) gives a
            bound on log p(x), and one that has not seen x itself cannot tell by y what only x shows. Not for an `ADGM`.
        eps: the noise of z, (B, Z) or (K, B, Z); drawn if None.

    Returns:
        dict of (B,), nats, not reduced: ``log_px`` and ``kl`` averaged over q(y | x), ``entropy`` of q(y | x)
        (0 to log K), ``unlabelled_bound`` and ``loss`` = -unlabelled_bound.

    Raises:
        ValueError: if x is no batch of flat examples.

    Source: Kingma et al. 2014, equation 7; ADGM: Maaløe et al. 2016, equation 9.
    """
    check_batch(x)
    x_in, a, log_qa = _infer(model, x)
    log_qy = model.classify(x_in if view is None else view).log_softmax(-1)
    terms = _given_label(model, x, x_in, a, model.all_labels(x), eps)
    y_probs = log_qy.exp()
    means = {name: (y_probs.T * value).sum(0) for name, value in terms.items()}
    entropy = -(y_probs * log_qy).sum(-1)
    bound = means.pop("bound") + entropy - log_qa
    return {"loss": -bound, **means, "entropy": entropy, "unlabelled_bound": bound}


def unlabelled_top(model: M2, x: Tensor, *, n_exact: int = 1, view: Tensor | None = None) -> Terms:
    r"""The unlabelled bound from n_exact + 1 labels instead of all K, without bias in value or gradient.

    The ``n_exact`` most probable labels T are summed over; one label s is drawn from the rest R in proportion to
    q(y | x) and stands for them with their whole probability q(R):

    .. math:: \sum_{y \in T} q(y)\,L_y + q(R)\,L_s + H(q)

    The gradient through the choice of s is the score function's, with :math:`L` of the most probable label as
    its baseline. A classifier that is sure leaves R almost no weight, so little noise is added.

    Args:
        model: an `M2` (or a `GMVAE`). x: (B, D). n_exact: labels summed over, 1 <= n_exact < K.
        view: as `unlabelled`.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``entropy`` (exact), ``unlabelled_bound`` and
        ``loss`` = -unlabelled_bound.

    Raises:
        ValueError: if ``n_exact`` is out of range, or x is no batch of flat examples.

    Source: Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019, section 3.
    """
    check_batch(x)
    if not 1 <= n_exact < model.n_classes:
        raise ValueError(f"n_exact must be between 1 and {model.n_classes - 1}, got {n_exact}")
    x_in, a, log_qa = _infer(model, x)
    log_qy = model.classify(x_in if view is None else view).log_softmax(-1)
    top = log_qy.topk(n_exact, dim=-1).indices
    gumbel = -torch.empty_like(log_qy).exponential_().log()
    drawn = (log_qy.detach().scatter(-1, top, -math.inf) + gumbel).argmax(-1, keepdim=True)
    labels = torch.cat([top, drawn], dim=-1)
    one_hot = torch.eye(model.n_classes, dtype=x.dtype, device=x.device)[labels.T]
    terms = _given_label(model, x, x_in, a, one_hot)
    log_q = log_qy.gather(-1, labels).T
    q_top = log_q[:-1].exp()
    q_rest = 1 - q_top.sum(0)
    weights = torch.cat([q_top, q_rest.detach()[None].clamp_min(0)])
    means = {name: (weights * value).sum(0) for name, value in terms.items()}
    best, other = terms["bound"][0].detach(), terms["bound"][-1].detach()
    score = weights[-1] * (log_q[-1] - log_q[-1].detach()) * (other - best) + (q_rest - q_rest.detach()) * best
    entropy = -(log_qy.exp() * log_qy).sum(-1)
    bound = means.pop("bound") + score + entropy - log_qa
    return {"loss": -bound, **means, "entropy": entropy, "unlabelled_bound": bound}


def unlabelled_sampled(model: M2, x: Tensor, *, temperature: float) -> Terms:
    r"""The unlabelled bound with one relaxed label in the place of the sum: for many classes.

    :math:`y = \mathrm{softmax}((\log q(y|x) + g) / \text{temperature})`, g Gumbel noise, replaces the K passes
    by one. Its mean tends to `unlabelled`'s bound as the temperature falls to 0, and its gradient gets noisier;
    above 0 it is no bound.

    Args:
        model: an `M2`. x: (B, D). temperature: > 0.

    Returns:
        dict of (B,), nats, not reduced: ``log_px``, ``kl``, ``entropy`` (exact), ``relaxed_objective`` and
        ``loss`` = -relaxed_objective.

    Raises:
        ValueError: if ``temperature`` is not positive, or x is no batch of flat examples.

    Source: Jang, Gu & Poole 2017, section 4.3; Maddison, Mnih & Teh 2017.
    """
    check_batch(x)
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    x_in, a, log_qa = _infer(model, x)
    log_qy = model.classify(x_in).log_softmax(-1)
    y = F.gumbel_softmax(log_qy, tau=temperature)
    terms = _given_label(model, x, x_in, a, y)
    entropy = -(log_qy.exp() * log_qy).sum(-1)
    objective = terms.pop("bound") + entropy - log_qa
    return {"loss": -objective, **terms, "entropy": entropy, "relaxed_objective": objective}


def total_loss(labelled: Terms, unlabelled: Terms, *, n_labelled: int, n_unlabelled: int, alpha: float) -> Tensor:
    r"""The loss of a whole data set, estimated from two batches and divided by its size N.

    .. math:: \frac1N \Big[ n_l\,\overline{-L} + n_u\,\overline{-U} + \alpha\,\overline{-\log q(y|x)} \Big],
              \qquad N = n_l + n_u

    A bar is a batch mean: multiplied by the *count* of the set the batch was drawn from, it estimates that
    set's sum without bias, whatever the two batch sizes are. Batch sums or bare means would reweigh the two sets.

    Args:
        labelled: of `labelled`. unlabelled: of `unlabelled` and its like; the batches may differ in size.
        n_labelled, n_unlabelled: examples in the data set, >= 1.
        alpha: weight of the classifier's mean cross-entropy, >= 0; the paper uses 0.1 N.

    Returns:
        scalar, nats per example.

    Raises:
        ValueError: for alpha < 0 or a count below 1.

    Source: Kingma et al. 2014, equations 8 and 9.
    """
    check_weights(alpha=alpha)
    if not (n_labelled >= 1 and n_unlabelled >= 1):
        raise ValueError(f"both counts must be at least 1, got n_labelled={n_labelled}, n_unlabelled={n_unlabelled}")
    total = (
        n_labelled * labelled["loss"].mean()
        + n_unlabelled * unlabelled["loss"].mean()
        - alpha * labelled["log_qy"].mean()
    )
    return total / (n_labelled + n_unlabelled)


def check_labels(y: Tensor, *, batch_size: int, n_classes: int) -> None:
    """Raise unless y is (B,) integer labels from 0 to K - 1.

    Values are not read while a CUDA graph is captured or code is compiled; the first steps run eagerly.

    Raises:
        ValueError: showing the shape, or the smallest and largest label.
    """
    if tuple(y.shape) != (batch_size,) or y.dtype != torch.int64:
        raise ValueError(f"labels must be int64 of shape ({batch_size},), got {y.dtype} of shape {tuple(y.shape)}")
    if torch.compiler.is_compiling() or (y.is_cuda and torch.cuda.is_current_stream_capturing()) or batch_size == 0:
        return
    low, high = (int(v) for v in y.aminmax())
    if low < 0 or high >= n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}, found {low} to {high}")


def _infer(model: Classifier, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """What the inference nets read: x itself, or (x, a) with a drawn from q(a | x); and a, log q(a | x)."""
    if not isinstance(model, ADGM):
        return x, None, x.new_zeros(())
    a_mu, a_logvar = model.encode_a(x)
    a = sample_normal(a_mu, a_logvar)
    return model.with_auxiliary(x, a), a, log_normal(a, a_mu, a_logvar)


def _given_label(
    model: M2, x: Tensor, x_in: Tensor, a: Tensor | None, y: Tensor, eps: Tensor | None = None
) -> dict[str, Tensor]:
    """log p(x | y, z), KL and their bound (before - log q(a | x)) for labels y (..., K): (..., B) each."""
    q_mu, q_logvar = model.encode(x_in, y)
    eps = torch.randn(q_mu.shape[-2:], dtype=q_mu.dtype, device=q_mu.device) if eps is None else eps
    z = q_mu + torch.exp(0.5 * q_logvar) * eps
    log_px = model.likelihood.log_prob(x, model.decode(z, y))
    kl = model.prior_given(y).kl(q_mu, q_logvar, z)
    bound = log_px - kl - math.log(model.n_classes)
    if a is not None and isinstance(model, ADGM):
        bound = bound + log_normal(a, *model.decode_a(x, y, z))
    return {"log_px": log_px, "kl": kl, "bound": bound}
