"""Objectives that ask for independent latents: the choice of latents, the estimators of q(z), the discriminator."""

import itertools
import math

import pytest
import torch
from fake_gpu import OnADevice, fake_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.distributions import Normal

from vae_helpers import objectives
from vae_helpers.distributions import kl_diag_gaussians_per_dim, log_aggregate_posterior, log_standard_normal
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import VAE
from vae_helpers.nets import MLP
from vae_helpers.objectives import descending_subset, greedy_subset, random_subset
from vae_helpers.priors import SmoothedUniform, StandardNormal

X = torch.bernoulli(torch.full((7, 12), 0.4), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = VAE(MLP(12, (8,), 6), MLP(3, (8,), 12), Bernoulli(), StandardNormal(3))
    with torch.no_grad():
        found.encoder[-1].weight.mul_(3)
        found.encoder[-1].weight.view(2, 3, -1)[:, 1] *= 0.1  # one latent that knows little
    return found


def by_hand(kl, omega):
    """The scan as one would do it with a pencil."""
    start = max(range(len(kl)), key=lambda i: kl[i])
    subset = {start}
    for i in range(len(kl)):
        held = sum(kl[j] for j in subset)
        if i not in subset and omega * (held + kl[i]) > held:
            subset.add(i)
    return [i in subset for i in range(len(kl))]


@pytest.mark.parametrize("omega", [0.6, 0.8, 0.9, 0.95, 1.0])
def test_the_greedy_subset_is_the_one_found_by_hand(omega):
    generator = torch.Generator().manual_seed(1)
    sizes = set()
    for _ in range(50):
        kl = torch.distributions.Exponential(1.0).icdf(torch.rand(10, generator=generator)).double()
        found = greedy_subset(kl, omega=omega)
        assert found.tolist() == by_hand(kl.tolist(), omega)
        sizes.add(int(found.sum()))
    assert len(sizes) > 1 or omega == 1.0


def test_a_latent_joins_when_it_adds_the_share_that_omega_asks_for():
    share = 1 / 0.9 - 1
    for value, joins in ((10 * share - 1e-3, False), (10 * share + 1e-3, True)):
        assert greedy_subset(torch.tensor([10.0, value]), omega=0.9).tolist() == [True, joins]


def test_the_greedy_subset_depends_on_the_order_of_the_latents_and_the_descending_one_does_not():
    kl = torch.tensor([5.0, 1.4, 5.1])
    swapped = torch.tensor([1.4, 5.0, 5.1])
    assert greedy_subset(kl, omega=0.8).tolist() == [True, False, True]  # 1.4 < 10.1 / 4
    assert greedy_subset(swapped, omega=0.8).tolist() == [True, True, True]  # 1.4 > 5.1 / 4, asked before the other
    assert descending_subset(kl, omega=0.8).tolist() == [True, False, True]
    assert descending_subset(swapped, omega=0.8).tolist() == [False, True, True]
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        kl, order = torch.rand(8, generator=generator), torch.randperm(8, generator=generator)
        assert torch.equal(descending_subset(kl, omega=0.9)[order], descending_subset(kl[order], omega=0.9))


def test_with_omega_one_every_informative_latent_is_kept(model):
    assert greedy_subset(torch.tensor([0.0, 1e-3, 2.0]), omega=1.0).tolist() == [False, True, True]
    terms = objectives.synergy(model, X, alpha=5.0, omega=1.0)
    assert terms["synergy_loss"].max() == 0
    assert terms["n_kept"].tolist() == [3.0] * 7


def test_a_random_subset_is_as_large_as_the_greedy_one_and_any_latent_may_be_in_it():
    torch.manual_seed(0)
    kl = torch.tensor([3.0, 0.1, 0.05, 2.0, 0.0])
    counts = torch.stack([random_subset(kl, omega=0.9) for _ in range(2000)]).double()
    assert set(counts.sum(1).tolist()) == {float(greedy_subset(kl, omega=0.9).sum())} == {2.0}
    torch.testing.assert_close(counts.mean(0), torch.full((5,), 0.4, dtype=torch.float64), atol=0.05, rtol=0)


@pytest.mark.parametrize("choice", [greedy_subset, descending_subset, random_subset])
@pytest.mark.parametrize("omega", [0.0, -0.1, 1.01, math.nan])
def test_an_omega_out_of_range_is_refused(choice, omega):
    with pytest.raises(ValueError, match="omega must be above 0 and at most 1"):
        choice(torch.ones(3), omega=omega)


def test_kls_of_the_wrong_shape_are_refused():
    for kl in (torch.ones(2, 3), torch.ones(0)):
        with pytest.raises(ValueError, match=r"kl must be \(Z,\)"):
            greedy_subset(kl, omega=0.9)


def test_the_synergy_loss_is_the_kl_of_what_is_left_out(model):
    kl = kl_diag_gaussians_per_dim(*model.encode(X))
    keep = torch.tensor(by_hand(kl.mean(0).tolist(), 0.7))
    assert 0 < keep.sum() < 3  # something on both sides
    terms = objectives.synergy(model, X, alpha=5.0, omega=0.7)
    torch.testing.assert_close(terms["synergy_loss"], kl[:, ~keep].sum(1))
    torch.testing.assert_close(terms["loss"], 5 * kl[:, ~keep].sum(1))
    terms["loss"].mean().backward()
    assert all(p.grad is None for p in model.decoder.parameters())
    head = model.encoder[-1].weight.grad.reshape(2, 3, -1)  # means and log variances of three latents
    assert head[:, keep].abs().max() == 0
    assert head[:, ~keep].abs().min() > 0


def test_the_masked_bound_is_the_elbo_and_the_synergy_in_one(model):
    def gradient(terms):
        return torch.autograd.grad(terms["loss"].mean(), list(model.parameters()), allow_unused=True)

    torch.manual_seed(1)
    plain = objectives.elbo(model, X)
    torch.manual_seed(1)
    masked = objectives.masked_elbo(model, X, alpha=5.0, omega=0.7)
    penalty = objectives.synergy(model, X, alpha=5.0, omega=0.7)
    for name in ("log_px", "kl", "elbo_bound"):
        torch.testing.assert_close(masked[name], plain[name])
    torch.testing.assert_close(masked["loss"], plain["loss"] + penalty["loss"])
    for one, a, b in zip(gradient(masked), gradient(plain), gradient(penalty), strict=True):
        torch.testing.assert_close(one, a if b is None else a + b)


def test_masked_with_nothing_kept_aside_is_a_beta_vae(model):
    def none(kl, *, omega):
        return torch.zeros(len(kl), dtype=torch.bool)

    torch.manual_seed(1)
    masked = objectives.masked_elbo(model, X, alpha=5.0, omega=0.9, choice=none)
    torch.manual_seed(1)
    torch.testing.assert_close(masked["loss"], objectives.elbo(model, X, beta=6.0)["loss"])


def test_bad_weights_priors_and_batches_are_refused(model):
    walls = VAE(model.encoder, model.decoder, Bernoulli(), SmoothedUniform(3))
    critic = MLP(3, (4,), 1)
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha must be a finite number >= 0"):
            objectives.synergy(model, X, alpha=weight, omega=0.9)
        with pytest.raises(ValueError, match="alpha must be a finite number >= 0"):
            objectives.masked_elbo(model, X, alpha=weight, omega=0.9)
        with pytest.raises(ValueError, match="beta must be a finite number >= 0"):
            objectives.beta_tcvae(model, X, beta=weight, n_data=7)
        with pytest.raises(ValueError, match="gamma must be a finite number >= 0"):
            objectives.factor_vae(model, critic, X, gamma=weight)
        with pytest.raises(ValueError, match="capacity must be a finite number >= 0"):
            objectives.capacity_elbo(model, X, gamma=1.0, capacity=weight)
    for refused in (
        lambda: objectives.synergy(walls, X, alpha=1.0, omega=0.9),
        lambda: objectives.masked_elbo(walls, X, alpha=1.0, omega=0.9),
        lambda: objectives.beta_tcvae(walls, X, beta=1.0, n_data=7),
    ):
        with pytest.raises(ValueError, match=r"needs the prior N\(0, I\), got SmoothedUniform"):
            refused()
    with pytest.raises(ValueError, match="batch of flat examples"):
        objectives.synergy(model, X[0], alpha=1.0, omega=0.9)
    with pytest.raises(ValueError, match=r"one logit a code, \(7, 1\), got \(7, 2\)"):
        objectives.factor_vae(model, MLP(3, (4,), 2), X, gamma=1.0)


def brute_log_aggregate(z, q_mu, q_logvar, weights):
    """One weighted mixture at a time, by torch.distributions."""
    posterior = Normal(q_mu, (0.5 * q_logvar).exp())
    joint, single = torch.empty(len(z)), torch.empty(z.shape)
    for i, point in enumerate(z):
        each = posterior.log_prob(point)  # (N, Z)
        joint[i] = (weights[i] * each.sum(1).exp()).sum().log()
        single[i] = (weights[i, :, None] * each.exp()).sum(0).log()
    return joint, single


def some_posteriors(n, z_dim, seed=3):
    generator = torch.Generator().manual_seed(seed)
    q_mu, q_logvar = torch.randn(n, z_dim, generator=generator), torch.randn(n, z_dim, generator=generator) - 1
    return q_mu + (0.5 * q_logvar).exp() * torch.randn(n, z_dim, generator=generator), q_mu, q_logvar


def test_the_log_aggregate_is_that_of_brute_force():
    z, q_mu, q_logvar = some_posteriors(5, 3)
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(4))
    joint, single = log_aggregate_posterior(z, q_mu, q_logvar, weights.log())
    expected_joint, expected_single = brute_log_aggregate(z, q_mu, q_logvar, weights)
    torch.testing.assert_close(joint, expected_joint)
    torch.testing.assert_close(single, expected_single)
    with pytest.raises(ValueError, match=r"z must be \(S, Z\)"):
        log_aggregate_posterior(z[:, :2], q_mu, q_logvar, 0.0)


@pytest.mark.parametrize(("n_data", "batch_size"), [(5, 3), (6, 2), (6, 6), (100, 7)])
def test_stratified_weights_are_one_in_all_and_the_mean_of_those_of_chen(n_data, batch_size):
    weights = objectives.minibatch_log_weights(batch_size, n_data=n_data).double().exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(batch_size, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(weights.diagonal(), torch.full((batch_size,), 1 / n_data, dtype=torch.float64))
    m = batch_size - 1
    theirs = [1 / m] * (m - 1) + [(n_data - m) / (n_data * m)]  # of the others, one of which takes what is left
    off = weights[0, 1].item()
    assert off == pytest.approx(sum(theirs) / m)


def test_the_stratified_estimate_is_q_of_z_on_average_over_batches():
    z, q_mu, q_logvar = some_posteriors(6, 2)
    exact, exact_single = log_aggregate_posterior(z, q_mu, q_logvar, -math.log(6))
    log_weights = objectives.minibatch_log_weights(3, n_data=6)
    for i in range(6):
        batches = [[i, *others] for others in itertools.combinations([j for j in range(6) if j != i], 2)]
        found = [log_aggregate_posterior(z[b], q_mu[b], q_logvar[b], log_weights) for b in batches]
        mean = torch.stack([joint[0].exp() for joint, _ in found]).mean()
        torch.testing.assert_close(mean, exact[i].exp())
        mean_single = torch.stack([single[0].exp() for _, single in found]).mean(0)
        torch.testing.assert_close(mean_single, exact_single[i].exp())


def test_the_weighted_estimate_is_too_small_by_what_its_docstring_says():
    log_weights = objectives.minibatch_log_weights(4, n_data=50, estimator="weighted")
    apart, q_logvar = torch.arange(50.0)[:, None] * 100, torch.zeros(50, 1)
    for q_mu, by in ((apart, math.log(4)), (torch.zeros(50, 1), math.log(50))):
        z = q_mu[:4] + 0.3
        exact, _ = log_aggregate_posterior(z, q_mu, q_logvar, -math.log(50))
        found, _ = log_aggregate_posterior(z, q_mu[:4], q_logvar[:4], log_weights)
        torch.testing.assert_close(exact - found, torch.full((4,), by))


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
def test_the_parts_of_the_kl_add_up_and_weights_of_one_give_the_elbo(model, estimator):
    torch.manual_seed(1)
    terms = objectives.beta_tcvae(model, X, beta=1.0, n_data=1000, estimator=estimator)
    torch.manual_seed(1)
    q_mu, q_logvar = model.encode(X)
    z = q_mu + (0.5 * q_logvar).exp() * torch.randn_like(q_mu)
    sampled = Normal(q_mu, (0.5 * q_logvar).exp()).log_prob(z).sum(1) - log_standard_normal(z)
    parts = [terms[name] for name in ("mutual_information", "total_correlation", "dimension_wise_kl")]
    torch.testing.assert_close(sum(parts), sampled)
    torch.manual_seed(1)
    plain = objectives.elbo(model, X)
    for name in ("loss", "log_px", "kl", "elbo_bound"):
        torch.testing.assert_close(terms[name], plain[name])
    torch.manual_seed(1)
    weighted = objectives.beta_tcvae(model, X, alpha=2.0, beta=3.0, gamma=5.0, n_data=1000, estimator=estimator)
    expected = 1 * parts[0] + 2 * parts[1] + 4 * parts[2] + terms["kl"] - terms["log_px"]
    torch.testing.assert_close(weighted["loss"], expected)


def test_with_the_whole_data_set_as_the_batch_the_parts_are_exact_and_within_their_bounds(model):
    torch.manual_seed(1)
    terms = objectives.beta_tcvae(model, X, beta=1.0, n_data=len(X))
    torch.manual_seed(1)
    q_mu, q_logvar = model.encode(X)
    z = q_mu + (0.5 * q_logvar).exp() * torch.randn_like(q_mu)
    joint, single = brute_log_aggregate(z, q_mu, q_logvar, torch.full((7, 7), 1 / 7))
    torch.testing.assert_close(terms["total_correlation"], joint - single.sum(1))
    torch.testing.assert_close(terms["dimension_wise_kl"], single.sum(1) - log_standard_normal(z))
    many = [objectives.beta_tcvae(model, X, beta=1.0, n_data=len(X)) for _ in range(400)]
    assert torch.stack([t["mutual_information"] for t in many]).max() <= math.log(7) + 1e-5
    assert torch.stack([t["total_correlation"] for t in many]).mean() > 0
    apart = VAE(model.encoder, model.decoder, Bernoulli(), StandardNormal(3))
    with torch.no_grad():
        apart.encoder[-1].weight[:3].mul_(100)
    assert objectives.beta_tcvae(apart, X, beta=1.0, n_data=7)["mutual_information"].max() > 0.9 * math.log(7)


def test_batches_that_do_not_fit_the_data_set_are_refused(model):
    for n_data in (1, 6):
        with pytest.raises(ValueError, match=f"at most n_data = {n_data}, got 7"):
            objectives.beta_tcvae(model, X, beta=1.0, n_data=n_data)
    with pytest.raises(ValueError, match="2 examples or more"):
        objectives.minibatch_log_weights(1, n_data=10)
    with pytest.raises(ValueError, match="unknown estimator 'mss'"):
        objectives.minibatch_log_weights(2, n_data=10, estimator="mss")


def test_the_capacity_pulls_the_kl_from_both_sides(model):
    kl = objectives.elbo(model, X)["kl"].mean().item()
    for capacity, sign in ((0.0, 1.0), (kl + 5, -1.0)):
        torch.manual_seed(1)
        held = objectives.capacity_elbo(model, X, gamma=10.0, capacity=torch.tensor(capacity))
        torch.manual_seed(1)
        plain = objectives.elbo(model, X)
        parameters = list(model.encoder.parameters())
        found = torch.autograd.grad(held["loss"].mean(), parameters, retain_graph=True)
        pull = torch.autograd.grad(sign * 10 * plain["kl"].mean() - plain["log_px"].mean(), parameters)
        torch.testing.assert_close(found, pull)
        assert held["loss"].mean().item() == pytest.approx((10 * abs(kl - capacity) - plain["log_px"].mean()).item())


def test_factor_vae_adds_gamma_times_the_logit_of_the_codes(model):
    critic = MLP(3, (8,), 1)
    torch.manual_seed(1)
    terms = objectives.factor_vae(model, critic, X, gamma=7.0)
    torch.manual_seed(1)
    plain = objectives.elbo(model, X)
    torch.manual_seed(1)
    q_mu, q_logvar = model.encode(X)
    logit = critic(q_mu + (0.5 * q_logvar).exp() * torch.randn_like(q_mu))[:, 0]
    torch.testing.assert_close(terms["total_correlation"], logit)
    torch.testing.assert_close(terms["loss"], plain["kl"] - plain["log_px"] + 7 * logit)
    for name in ("log_px", "kl", "elbo_bound"):
        torch.testing.assert_close(terms[name], plain[name])


def test_under_bf16_the_discriminator_sees_whole_codes():
    class Watch(MLP):
        seen = None

        def forward(self, z):
            out = super().forward(z)
            Watch.seen = z.dtype, out.dtype
            return out

    z = torch.randn(8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        objectives.discrimination(Watch(3, (4,), 1), z, objectives.permuted(z))
    assert Watch.seen == (torch.float32, torch.float32)


OBJECTIVES = {
    "elbo": lambda m, c, x: objectives.elbo(m, x),
    "synergy": lambda m, c, x: objectives.synergy(m, x, alpha=5.0, omega=0.9),
    "descending": lambda m, c, x: objectives.masked_elbo(m, x, alpha=5.0, omega=0.9, choice=descending_subset),
    "random": lambda m, c, x: objectives.masked_elbo(m, x, alpha=5.0, omega=0.9, choice=random_subset),
    "factor_vae": lambda m, c, x: objectives.factor_vae(m, c, x, gamma=5.0),
    "discrimination": lambda m, c, x: objectives.discrimination(c, m.encode(x)[0], objectives.permuted(m.encode(x)[0])),
    "stratified": lambda m, c, x: objectives.beta_tcvae(m, x, beta=4.0, n_data=1000),
    "weighted": lambda m, c, x: objectives.beta_tcvae(m, x, beta=4.0, n_data=1000, estimator="weighted"),
    "capacity": lambda m, c, x: objectives.capacity_elbo(m, x, gamma=5.0, capacity=x.sum()),
}


def on_a_fake_gpu(objective):
    with fake_gpu():
        with torch.device("cuda"):
            model = VAE(MLP(12, (8,), 6), MLP(3, (8,), 12), Bernoulli(), StandardNormal(3))
            critic, x = MLP(3, (4,), 1), torch.zeros(7, 12)
        with OnADevice() as watch:
            objective(model, critic, x)
    return watch.copies


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_no_objective_makes_a_gpu_wait_or_copies_constants_to_it(objective):
    assert on_a_fake_gpu(objective) == []


def test_a_copied_constant_and_a_number_read_back_would_be_seen():
    assert on_a_fake_gpu(lambda m, c, x: torch.ones(3).to(x))
    for wait in (lambda m, c, x: x.nonzero(), lambda m, c, x: x.sum().item()):
        with pytest.raises((DynamicOutputShapeException, DataDependentOutputException)):
            on_a_fake_gpu(wait)


def test_permuted_codes_keep_each_latent_and_break_the_rows():
    torch.manual_seed(0)
    z = torch.arange(50.0)[:, None].expand(50, 4) + torch.tensor([0, 100, 200, 300])
    found = objectives.permuted(z)
    torch.testing.assert_close(found.sort(0).values, z)
    ranks = found.argsort(0)
    assert all((ranks[:, i] != ranks[:, j]).float().mean() > 0.8 for i, j in itertools.combinations(range(4), 2))


def test_the_discriminator_s_loss_does_not_reach_the_encoder(model):
    critic = MLP(3, (8,), 1)
    q_mu, _ = model.encode(X)
    terms = objectives.discrimination(critic, q_mu, objectives.permuted(q_mu))
    terms["loss"].mean().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in critic.parameters())
    with pytest.raises(ValueError, match="one shape"):
        objectives.discrimination(critic, q_mu, q_mu[:3])


def test_the_discriminator_learns_the_total_correlation_of_two_gaussians():
    torch.manual_seed(0)
    rho, critic = 0.8, MLP(2, (64, 64), 1, activation="relu")
    mix = torch.linalg.cholesky(torch.tensor([[1.0, rho], [rho, 1.0]]))
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for _ in range(800):
        z, other = torch.randn(2, 512, 2) @ mix.T
        loss = objectives.discrimination(critic, z, objectives.permuted(other))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = critic(torch.randn(20_000, 2) @ mix.T).mean().item()
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)  # 0.511 nats
    assert loss.item() < math.log(2) - 0.05  # better than guessing
