"""Disentanglement metrics on codes whose scores are known: perfect, still, copied, rotated, mixed, noisy."""

import math
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score, r2_score
from torch import nn

from vae_helpers.data.factors import FactorGrid, FactorImages
from vae_helpers.evaluation.disentanglement import (
    all_metrics,
    beta_vae,
    dci,
    draw_codes,
    encode_classes,
    explicitness,
    factor_r2,
    factor_vae,
    mig,
    modularity,
    one_factor_varied,
    sap,
)
from vae_helpers.evaluation.disentanglement.importance import dci_of

FEW = {"n_train": 600, "n_test": 400, "batch_size": 24, "n_variance": 1000}
SMALL = {"n_train": 600, "n_test": 400}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def images_of(*sizes):
    """Images whose pixels are their classes."""
    grid = FactorGrid(tuple("abcdef"[: len(sizes)]), sizes)
    return FactorImages("classes", "a test", (1, 1, len(sizes)), grid, lambda c: c.to(torch.uint8), white=1)


IMAGES = images_of(5, 5, 5)
GRID = IMAGES.grid


def scaled(x, grid=GRID):
    return grid.scaled(x.long())


def hashed(x, n, seed=0):
    """n latents that look random and depend on all factors together: the same image, the same code."""
    weight = torch.rand(x.shape[1], n, dtype=torch.float64, generator=seeded(seed))
    return (0.9 * torch.sin(1e4 * (x.double() + 1) @ weight)).float()


def rotated(x):
    z = scaled(x)
    return torch.stack([z[:, 0] + z[:, 1], z[:, 0] - z[:, 1], 2**0.5 * z[:, 2]], 1) / 2**0.5


def mixed(x):
    q = torch.linalg.qr(torch.randn(3, 3, generator=seeded(4))).Q
    return scaled(x) @ q.T


CODES = {
    "perfect": scaled,
    "still": lambda x: torch.full((len(x), 3), 0.1),
    "copied": lambda x: scaled(x).repeat(1, 2),
    "rotated": rotated,
    "mixed": mixed,
    "noisy": lambda x: torch.cat([scaled(x) + 0.35 * hashed(x, 3), hashed(x, 2, seed=1)], 1),
}


def whole(encoder, images=IMAGES, times=1):
    """Codes and classes of every image, each as often: sampling adds nothing to what is known."""
    classes = images.grid.classes_of(torch.arange(images.grid.n_images)).repeat(times, 1)
    return encode_classes(encoder, images, classes), classes


# --- votes


@pytest.mark.parametrize("metric", [factor_vae, one_factor_varied])
def test_votes_know_perfect_copied_and_still_codes(metric):
    perfect = metric(CODES["perfect"], IMAGES, seed=0, **FEW)
    assert (perfect.score, perfect.standard_error) == (1, 0)
    assert perfect.match.tolist() == [0, 1, 2]
    assert perfect.names == ("a", "b", "c")
    assert torch.equal(perfect.votes, perfect.votes.diagonal().diag())
    assert (perfect.votes.sum(), perfect.test_votes.sum()) == (600, 400)
    assert perfect.votes.diagonal().min() > 150  # each factor has about 200
    assert str(perfect) == "1.000 ± 0.000"
    copied = metric(CODES["copied"], IMAGES, seed=0, **FEW)
    assert copied.score == 1
    assert sorted(set(copied.match.tolist()) - {-1}) == [0, 1, 2]
    still = metric(CODES["still"], IMAGES, seed=0, **FEW)
    assert (still.score, still.kept.any().item()) == (0, False)
    assert "no latent has a standard deviation of at least 0.05" in still.note
    assert perfect.note == ""


@pytest.mark.parametrize("metric", [factor_vae, one_factor_varied])
def test_two_factors_mixed_by_45_degrees_are_guessed(metric):
    found = metric(rotated, IMAGES, seed=0, **FEW)
    assert found.score == pytest.approx(2 / 3, abs=0.1)  # the third is known, between the first two a coin decides
    assert found.test_votes[2, 2] == found.test_votes[:, 2].sum()
    assert metric(mixed, IMAGES, seed=0, **FEW).score < 0.95


def test_a_small_rotation_escapes_votes_and_pairs_but_not_the_gap():
    def code(x):
        z, angle = scaled(x), math.radians(20)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return torch.cat([z[:, :2] @ turn.T, z[:, 2:]], 1)

    for metric in (factor_vae, one_factor_varied, beta_vae):
        sizes = {name: value for name, value in FEW.items() if metric is not beta_vae or name != "n_variance"}
        assert metric(code, IMAGES, seed=0, **sizes).score > 0.99
    assert mig(*whole(code), GRID).score < 0.9


def test_a_latent_that_follows_every_factor_disturbs_one_vote_and_not_the_other():
    def code(x):
        return torch.cat([scaled(x), hashed(x, 4)], 1)

    assert factor_vae(code, IMAGES, seed=0, **FEW).score == 1
    assert one_factor_varied(code, IMAGES, seed=0, **FEW).score < 0.9


def test_votes_are_scaled_by_each_latents_own_variance_over_the_data():
    def code(x, scale=1.0):
        return (scaled(x) + 0.2 * hashed(x, 3)) * torch.tensor([1.0, scale, 1.0])

    plain = factor_vae(code, IMAGES, seed=0, **FEW)
    assert plain.score > 0.99  # the batch's own variance would leave 1 for all latents, and 1/3
    for scale in (0.01, 100):  # without scaling one latent would get all votes, and 1/3
        found = factor_vae(lambda x, by=scale: code(x, by), IMAGES, seed=0, **FEW, min_sd=0)
        assert torch.equal(found.votes, plain.votes)
    varied = one_factor_varied(lambda x: code(x, 100), IMAGES, seed=0, **FEW)
    assert varied.score > 0.99


class Recorder:
    """An encoder that keeps what it was shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x.clone())
        return scaled(x)


@pytest.mark.parametrize(("metric", "n_fixed"), [(factor_vae, 1), (one_factor_varied, 2)])
def test_what_votes_look_at(metric, n_fixed):
    recorder = Recorder()
    sizes = {"n_train": 30, "n_test": 20, "batch_size": 50, "n_variance": 100}
    found = metric(recorder, IMAGES, seed=0, **sizes, encode_batch=50)
    assert len(recorder.seen) == 2 + 30 + 20  # the images of the variances are their own
    first = torch.cat(recorder.seen[:2])
    torch.testing.assert_close(found.sd, scaled(first).double().std(0))
    assert (first.amin(0) == 0).all()
    assert (first.amax(0) == 4).all()
    still = torch.stack([(batch == batch[:1]).all(0) for batch in recorder.seen[2:]])
    assert (still.sum(1) == n_fixed).all()  # 50 images with 5 values a factor do not agree by chance
    own = still if n_fixed == 1 else ~still
    assert own.sum(0).tolist() == (found.votes + found.test_votes).sum(0).tolist()


def test_latents_that_hardly_move_do_not_vote():
    def code(x):
        return scaled(x) * torch.tensor([1.0, 1.0, 0.01])

    found = factor_vae(code, IMAGES, seed=0, **FEW)
    assert found.kept.tolist() == [True, True, False]
    assert found.votes[2].sum() == found.test_votes[2].sum() == 0
    assert found.match[2] == -1
    assert found.score < 0.8  # two latents can name two factors
    assert factor_vae(code, IMAGES, seed=0, **FEW, min_sd=0.001).score == 1
    still = factor_vae(lambda x: torch.cat([torch.ones(len(x), 1), scaled(x)], 1), IMAGES, seed=0, **FEW, min_sd=0)
    assert (still.score, still.kept.tolist()) == (1, [False, True, True, True])  # 0 / 0 is no vote


def test_a_majority_is_found_on_other_votes_than_it_is_counted_on():
    images = images_of(40, 40, 40)  # so many that a fixed value does not give itself away
    found = factor_vae(lambda x: hashed(x, 60), images, seed=0, **FEW)  # 60 latents overfit 600 votes
    trained = found.votes.amax(1).sum().item() / 600
    assert trained > 0.42
    assert found.score < trained - 0.05
    majority = found.votes.argmax(1)
    assert found.score == pytest.approx(found.test_votes[torch.arange(60), majority].sum().item() / 400)


@pytest.mark.parametrize("metric", [factor_vae, beta_vae])
def test_standard_errors_shrink_with_test_votes_and_are_the_spread(metric):
    def code(x):
        return scaled(x) + 1.2 * hashed(x, 3)

    sizes = {"n_train": 2000, "batch_size": 8}
    found = [metric(code, IMAGES, seed=seed, n_test=100, **sizes) for seed in range(40)]
    spread = torch.tensor([one.score for one in found]).std().item()
    mean = sum(one.score for one in found) / 40
    assert 0.4 < mean < 0.95
    assert sum(one.standard_error for one in found) / 40 == pytest.approx(spread, rel=0.45)  # 11 % is one sd of it
    more = metric(code, IMAGES, seed=0, n_test=1600, **sizes)
    assert more.standard_error == pytest.approx(math.sqrt(mean * (1 - mean) / 1600), rel=0.15)


# --- pairs


def test_pairs_know_what_they_share():
    perfect = beta_vae(scaled, IMAGES, seed=0, n_train=600, n_test=400, batch_size=24)
    assert (perfect.score, perfect.train_score, perfect.standard_error) == (1, 1, 0)
    assert torch.equal(perfect.table, perfect.table.diagonal().diag())
    assert perfect.table.sum() == 400
    assert perfect.names == ("a", "b", "c")
    assert beta_vae(CODES["copied"], IMAGES, seed=0, n_train=600, n_test=400, batch_size=24).score == 1
    for code in (CODES["still"], lambda x: hashed(x, 3)):
        assert beta_vae(code, IMAGES, seed=0, n_train=600, n_test=400).score == pytest.approx(1 / 3, abs=0.1)
    found = beta_vae(rotated, IMAGES, seed=0, n_train=600, n_test=400, batch_size=24)
    assert found.score < 0.9
    assert found.table[2, 2] == found.table[2].sum()
    assert found.standard_error == pytest.approx(math.sqrt(found.score * (1 - found.score) / 400))


def test_what_pairs_look_at():
    recorder = Recorder()
    beta_vae(recorder, IMAGES, seed=0, n_train=30, n_test=20, batch_size=50, encode_batch=50)
    assert len(recorder.seen) == 2 * (30 + 20)
    first, second = recorder.seen[:30] + recorder.seen[60:80], recorder.seen[30:60] + recorder.seen[80:]
    same = torch.stack([(a == b).float().mean(0) for a, b in zip(first, second, strict=True)])
    assert ((same == 1).sum(1) == 1).all()
    assert same[same < 1].mean().item() == pytest.approx(1 / 5, abs=0.03)  # the others agree by chance
    assert all(len(batch.unique(dim=0)) > 20 for batch in first)  # the shared value differs from pair to pair


# --- information


def test_mutual_information_is_scikit_learns_of_the_same_bins():
    images = images_of(2, 1, 7, 3)
    codes, classes = draw_codes(lambda x: torch.cat([x[:, :3] + x[:, 3:], hashed(x, 2)], 1), images, seed=0, n=500)
    found = mig(codes, classes, images.grid, n_bins=6)
    assert found.names == ("a", "c", "d")
    z, y = codes.double().numpy(), classes[:, [0, 2, 3]].numpy()
    bins = np.stack([np.digitize(column, np.histogram(column, 6)[1][:-1]) for column in z.T], 1)
    expected = np.array([[mutual_info_score(bins[:, j], y[:, f]) for f in range(3)] for j in range(5)])
    np.testing.assert_allclose(found.mutual_information, expected, atol=1e-9)
    np.testing.assert_allclose(found.entropy, [mutual_info_score(c, c) for c in y.T], atol=1e-9)
    top = np.sort(expected, 0)
    np.testing.assert_allclose(found.gaps, (top[-1] - top[-2]) / found.entropy.numpy(), atol=1e-9)
    assert found.score == pytest.approx(found.gaps.mean().item())
    assert found.best.tolist() == expected.argmax(0).tolist()
    per_latent = modularity(codes, classes, images.grid, n_bins=6).per_latent
    squares = expected**2
    np.testing.assert_allclose(per_latent, 1 - (squares.sum(1) / squares.max(1) - 1) / 2, atol=1e-9)


@pytest.mark.parametrize(
    ("code", "gap", "modular"),
    [("perfect", 1, 1), ("copied", 0, 1), ("still", 0, 0), ("rotated", 1 / 3, 2 / 3)],
)
def test_information_metrics_of_known_codes(code, gap, modular):
    codes, classes = whole(CODES[code])
    assert mig(codes, classes, GRID).score == pytest.approx(gap, abs=1e-9)
    # a and b are equally in two rotated latents: 1 - I^2 / (2 I^2) for these, and 1 for the third
    assert modularity(codes, classes, GRID).score == pytest.approx(modular, abs=1e-9)


def test_more_values_than_bins_cost_what_is_said():
    images = images_of(40, 2)
    codes, classes = whole(lambda x: scaled(x, images.grid), images)
    found = mig(codes, classes, images.grid)
    assert found.gaps.tolist() == pytest.approx([math.log(20) / math.log(40), 1])
    assert mig(codes, classes, images.grid, n_bins=40).score == pytest.approx(1)


def test_a_still_latent_halves_nothing_of_the_gap_and_counts_in_modularity():
    codes, classes = whole(lambda x: torch.cat([scaled(x), torch.full((len(x), 1), 0.3)], 1))
    assert mig(codes, classes, GRID).score == pytest.approx(1)
    found = modularity(codes, classes, GRID)
    assert found.per_latent.tolist() == pytest.approx([1, 1, 1, 0])
    assert found.score == pytest.approx(3 / 4)


def test_standard_errors_of_gaps_are_the_spread_over_draws():
    def code(x):
        return scaled(x) + 0.5 * hashed(x, 3) + 0.4 * scaled(x).roll(1, 1)

    for metric in (lambda z, y: mig(z, y, GRID), lambda z, y: sap(z, y, GRID, n_train=300, ordered=True)):
        found = [metric(*draw_codes(code, IMAGES, seed=seed, n=1000)) for seed in range(60)]
        spread = torch.tensor([one.score for one in found]).std().item()
        assert sum(one.standard_error for one in found) / 60 == pytest.approx(spread, rel=0.35)  # 9 % is one sd
        small = metric(*draw_codes(code, IMAGES, seed=0, n=4000))
        assert small.standard_error < 0.7 * found[0].standard_error


def test_a_gap_that_is_all_of_the_entropy_has_no_error_however_often_values_come():
    images = images_of(3, 2)
    shares = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 1])
    classes = torch.cartesian_prod(*shares)
    found = mig(scaled(classes, images.grid), classes, images.grid)
    assert (found.score, found.standard_error) == pytest.approx((1, 0), abs=1e-9)
    assert found.entropy[1].item() == pytest.approx(math.log(4) - 0.75 * math.log(3))


# --- prediction


def test_separation_of_two_valued_factors_is_one_less_chance():
    images = images_of(2, 2, 2)

    def code(x):
        return scaled(x, images.grid)

    codes, classes = whole(code, images, times=40)
    found = sap(codes, classes, images.grid, n_train=160)
    torch.testing.assert_close(found.scores, 0.5 + 0.5 * torch.eye(3, dtype=torch.float64))
    assert found.score == pytest.approx(0.5)
    assert found.best.tolist() == [0, 1, 2]
    per_example = np.array([0, 1, 2, 3]) / 6  # of three factors, how many the second best gets wrong
    weights = np.array([1, 3, 3, 1]) / 8
    if found.standard_error > 0:
        spread = math.sqrt((weights * (2 * per_example - 0.5) ** 2).sum())
        assert found.standard_error <= spread / math.sqrt(160) * 1.1
    for name in ("copied", "still"):
        wide = code if name == "copied" else (lambda x: torch.zeros(len(x), 3))
        codes, classes = whole(lambda x, wide=wide: wide(x).repeat(1, 2), images, times=40)
        assert sap(codes, classes, images.grid, n_train=160).score == pytest.approx(0)


@pytest.mark.parametrize(("code", "score"), [("perfect", 1), ("copied", 0), ("still", 0), ("rotated", 1 / 3)])
def test_separation_by_squared_correlation(code, score):
    codes, classes = whole(CODES[code], times=2)
    found = sap(codes, classes, GRID, n_train=125, ordered=True)
    assert found.score == pytest.approx(score, abs=1e-6)
    z, y = codes[125:].double().numpy(), classes[125:].numpy()
    if code != "still":
        corr = np.corrcoef(z.T, y.T)[: z.shape[1], z.shape[1] :]
        np.testing.assert_allclose(found.scores, corr**2, atol=1e-9)


@pytest.mark.parametrize("ordered", [False, True])
def test_separation_is_tested_on_the_rest(ordered):
    codes, classes = whole(scaled, times=2)
    wrong = codes.clone()
    wrong[125:] = torch.rand(125, 3, generator=seeded(0))
    assert sap(wrong, classes, GRID, n_train=125, ordered=ordered).score < 0.1
    assert sap(codes, classes, GRID, n_train=125, ordered=ordered).score > 0.15


def test_dci_of_known_importances():
    right = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)

    def found(*rows):
        return dci_of(torch.tensor(rows, dtype=torch.float64), right, ("a", "b"))

    perfect = found([1, 0], [0, 1], [0, 0])
    assert (perfect.disentanglement, perfect.completeness) == pytest.approx((1, 1))
    assert perfect.per_latent.tolist() == pytest.approx([1, 1, 0])
    assert perfect.informativeness == 0.75
    assert perfect.accuracy.tolist() == [0.75, 0.75]
    assert perfect.standard_error == pytest.approx(right.mean(1).std().item() / 2)
    even = found([1, 1], [1, 1], [1, 1])
    assert (even.disentanglement, even.completeness) == pytest.approx((0, 0), abs=1e-9)
    copied = found([0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5])
    assert (copied.disentanglement, copied.completeness) == pytest.approx((1, 1 - math.log(2) / math.log(4)))
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    uneven = found([0.9, 0.3], [0.1, 0.7])  # the first latent has 1.2 of the 2 there are
    h2 = -(0.125 * math.log(0.125) + 0.875 * math.log(0.875)) / math.log(2)
    assert uneven.disentanglement == pytest.approx(0.6 * (1 - h) + 0.4 * (1 - h2))
    h3, h4 = (-(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2) for p in (0.9, 0.3))
    assert uneven.completeness == pytest.approx(1 - (h3 + h4) / 2)
    nothing = found([0, 0], [0, 0])
    assert (nothing.disentanglement, nothing.completeness) == (0, 0)
    half = found([1, 0], [0, 0])
    assert (half.disentanglement, half.completeness) == (1, 1)


@pytest.mark.parametrize("predictor", ["boosted_trees", "random_forest"])
def test_dci_of_known_codes(predictor):
    def of(name):
        codes, classes = draw_codes(CODES[name], IMAGES, seed=0, n=500)
        return dci(codes, classes, GRID, seed=0, n_train=350, predictor=predictor)

    perfect = of("perfect")
    assert (perfect.disentanglement, perfect.completeness) == pytest.approx((1, 1), abs=1e-3)
    assert (perfect.informativeness, perfect.standard_error) == (1, 0)
    copied = of("copied")
    assert copied.disentanglement == pytest.approx(1, abs=1e-3)
    assert copied.completeness == pytest.approx(1 - math.log(2) / math.log(6), abs=0.1)
    still = of("still")
    assert (still.disentanglement, still.completeness) == (0, 0)
    assert still.informativeness == pytest.approx(1 / 5, abs=0.1)
    turned = of("rotated")
    assert turned.disentanglement < 0.75
    assert turned.per_latent[2] > 0.95
    assert turned.per_factor[:2].max() < 0.75
    assert turned.per_factor[2] > 0.95


def test_dci_weighs_latents_by_their_importance():
    codes, classes = draw_codes(CODES["noisy"], IMAGES, seed=0, n=1000)
    found = dci(codes, classes, GRID, seed=0, n_train=700, predictor="random_forest")
    assert found.importance.shape == (5, 3)
    assert found.importance.sum(0).tolist() == pytest.approx([1, 1, 1])
    assert found.importance[3:].max() < 0.2
    assert found.per_latent[3:].max() < found.per_latent[:3].min()
    assert found.disentanglement > found.per_latent.mean() + 0.1  # noise, about all factors, weighs little


def test_r2_is_scikit_learns_on_the_rest():
    codes, classes = draw_codes(CODES["noisy"], IMAGES, seed=0, n=600)
    found = factor_r2(codes[:, 1:], classes, GRID, n_train=400)
    z = np.concatenate([codes[:, 1:].numpy(), np.ones((600, 1))], 1)
    v = GRID.scaled(classes).numpy()
    predicted = z[400:] @ np.linalg.lstsq(z[:400], v[:400], rcond=None)[0]
    np.testing.assert_allclose(found.r2, r2_score(v[400:], predicted, multioutput="raw_values"), atol=1e-5)
    np.testing.assert_allclose(found.rmse, ((v[400:] - predicted) ** 2).mean(0) ** 0.5, atol=1e-5)
    assert found.names == ("a", "b", "c")
    assert found.r2[0] < 0.1  # the latent of the first factor was left out
    assert found.r2[1:].min() > 0.85
    assert found.mean == pytest.approx(found.r2.mean().item())


@pytest.mark.parametrize("regressor", ["linear", "neighbours", "random_forest"])
def test_r2_of_known_codes(regressor):
    def r2(code, images=IMAGES):
        codes, classes = draw_codes(code, images, seed=0, n=3500)
        return factor_r2(codes, classes, images.grid, n_train=3000, regressor=regressor).r2

    exact = {"linear": 1 - 1e-9, "neighbours": 0.99, "random_forest": 0.99}[regressor]
    assert r2(scaled).min() >= exact
    assert r2(mixed).min() >= exact - (0.1 if regressor == "random_forest" else 0)  # no latent need be its own
    assert r2(CODES["still"]).max() < 0.02
    assert r2(CODES["still"]).min() > -0.6  # any ten are the nearest
    bent = r2(lambda x: scaled(x).abs())  # which side of the middle is lost, and with it the line
    assert bent.max() < 0.1
    wound = r2(lambda x: torch.sin(8 * scaled(x)))  # five points, in another order
    assert (wound.max() < 0.6) if regressor == "linear" else (wound.min() > 0.8)


def test_standard_error_of_r2_is_the_spread_over_draws():
    def code(x):
        return scaled(x) + hashed(x, 3)

    found = [factor_r2(*draw_codes(code, IMAGES, seed=s, n=5200), GRID, n_train=5000) for s in range(60)]
    spread = torch.stack([one.r2 for one in found]).std(0)
    error = torch.stack([one.standard_error for one in found]).mean(0)
    torch.testing.assert_close(error, spread, rtol=0.35, atol=0)
    still = factor_r2(*draw_codes(CODES["still"], IMAGES, seed=0, n=5200), GRID, n_train=5000)
    assert still.standard_error.max() < 0.01  # a code that knows nothing explains nothing of any test set


def test_explicitness_of_known_codes():
    images = images_of(2, 2, 3)

    def of(code):
        codes, classes = draw_codes(code, images, seed=0, n=1500)
        return explicitness(codes, classes, images.grid, n_train=1000)

    perfect = of(lambda x: scaled(x, images.grid))
    assert perfect.per_factor[:2].tolist() == pytest.approx([1, 1])
    assert of(lambda x: torch.cat([scaled(x, images.grid), (x[:, 2:] == 1).float()], 1)).score == pytest.approx(1)
    assert of(lambda x: torch.zeros(len(x), 3)).score == pytest.approx(0.5)
    only = of(lambda x: scaled(x, images.grid) * torch.tensor([1.0, 0.0, 0.0]))
    assert only.per_factor.tolist() == pytest.approx([1, 0.5, 0.5], abs=0.06)
    tiny = of(lambda x: 1e-4 * scaled(x, images.grid) + 5)
    assert tiny.score == pytest.approx(perfect.score, abs=1e-3)


# --- all together


def scores(code, images=IMAGES, **how):
    votes = {"n_train_votes": 500, "n_test_votes": 300}
    return all_metrics(code, images, seed=0, predictor="random_forest", **{**FEW, **votes, **how})


NOISY = scores(CODES["noisy"])


def test_names_of_all_metrics():
    assert list(NOISY) == [
        "factor_vae", "one_factor_varied", "beta_vae", "mig", "modularity", "explicitness", "sap",
        "dci_disentanglement", "dci_completeness", "dci_informativeness", "r2_a", "r2_b", "r2_c",
    ]  # fmt: skip
    how = {"n_train": 500, "n_test": 300, "batch_size": 24}
    assert NOISY["factor_vae"] == factor_vae(CODES["noisy"], IMAGES, seed=0, n_variance=1000, **how).score
    varied = one_factor_varied(CODES["noisy"], IMAGES, seed=0, n_variance=1000, **how)
    assert NOISY["one_factor_varied"] == varied.score
    assert NOISY["beta_vae"] == beta_vae(CODES["noisy"], IMAGES, seed=0, **how).score
    codes, classes = draw_codes(CODES["noisy"], IMAGES, seed=0, n=1000)
    found = dci(codes, classes, GRID, seed=0, n_train=600, predictor="random_forest")
    assert NOISY["dci_disentanglement"] == found.disentanglement
    assert NOISY["dci_completeness"] == found.completeness
    assert NOISY["dci_informativeness"] == found.informativeness
    assert NOISY["mig"] == mig(codes[:600], classes[:600], GRID).score
    assert NOISY["modularity"] == modularity(codes[:600], classes[:600], GRID).score
    assert NOISY["sap"] == sap(codes, classes, GRID, n_train=600).score
    assert NOISY["r2_b"] == factor_r2(codes, classes, GRID, n_train=600).r2[1].item()


@pytest.mark.parametrize(
    ("order", "signs"), [([4, 2, 0, 3, 1], [1, 1, 1, 1, 1]), ([0, 1, 2, 3, 4], [-1, 1, -1, -1, 1])]
)
def test_order_and_signs_of_latents_do_not_matter(order, signs):
    found = scores(lambda x: CODES["noisy"](x)[:, order] * torch.tensor(signs))
    for name in ("factor_vae", "one_factor_varied"):
        assert found[name] == NOISY[name]
    for name, value in found.items():
        # bins, trees and optimisers break ties and round otherwise
        assert value == pytest.approx(NOISY[name], abs=0.02), name


def test_mixing_lowers_every_score_of_axes():
    perfect, turned, stirred, noisy = (scores(CODES[name]) for name in ("perfect", "rotated", "mixed", "noisy"))
    axes = ("factor_vae", "one_factor_varied", "mig", "modularity", "sap", "dci_disentanglement", "dci_completeness")
    for name in axes:
        assert perfect[name] > turned[name] + 0.05, name
        assert perfect[name] > stirred[name] + 0.05, name
    assert perfect["beta_vae"] > turned["beta_vae"] + 0.05
    for name in ("mig", "modularity", "dci_disentanglement", "r2_a"):
        assert perfect[name] > noisy[name] + 0.01, name
    for name in ("r2_a", "r2_b", "r2_c"):  # what is there is all there
        assert [perfect[name], turned[name], stirred[name]] == pytest.approx([1, 1, 1])


def test_a_factor_with_one_value_is_not_counted():
    images = images_of(5, 1, 5, 5)
    found = scores(lambda x: CODES["noisy"](x[:, [0, 2, 3]]), images)
    assert list(found)[-3:] == ["r2_a", "r2_c", "r2_d"]
    assert list(found.values()) == list(NOISY.values())
    votes = factor_vae(lambda x: scaled(x[:, [0, 2, 3]]), images, seed=0, **FEW)
    assert votes.names == ("a", "c", "d")
    assert votes.votes.shape == (3, 3)


def test_the_seed_decides_and_the_global_state_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    again = scores(CODES["noisy"])
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert (before[1][0] == after[0]).all()
    assert before[1][1] == after[1]
    assert before[2] == random.getstate()
    assert again == NOISY
    for metric in (factor_vae, one_factor_varied, beta_vae):
        sizes = {"n_train": 200, "n_test": 100, "batch_size": 4}
        one, same, other = (metric(CODES["noisy"], IMAGES, seed=seed, **sizes) for seed in (1, 1, 2))
        tables = [found.table if metric is beta_vae else found.votes for found in (one, same, other)]
        assert torch.equal(tables[0], tables[1])
        assert not torch.equal(tables[0], tables[2])
    codes, classes = draw_codes(scaled, IMAGES, seed=1, n=50)
    assert not torch.equal(codes, draw_codes(scaled, IMAGES, seed=2, n=50)[0])
    torch.testing.assert_close(codes, GRID.scaled(classes))


# --- codes


@pytest.mark.parametrize("encode_batch", [1, 7, 50, 1000])
def test_codes_do_not_depend_on_the_batches_and_may_be_learnt_from(encode_batch):
    sizes = []

    def code(x):
        sizes.append(len(x))
        return scaled(x).double()

    classes = GRID.sample(50, generator=seeded(0))
    codes = encode_classes(code, IMAGES, classes, encode_batch=encode_batch)
    assert torch.equal(codes, GRID.scaled(classes).double())
    assert max(sizes) == min(encode_batch, 50)
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    (codes @ weight).sum().backward()  # a tensor of inference mode would refuse
    torch.testing.assert_close(weight.grad, codes.sum(0))


def test_encoders_run_without_gradients():
    net = nn.Linear(3, 2).eval()
    codes, _ = draw_codes(net, IMAGES, seed=0, n=10)
    assert not codes.requires_grad
    net.train()
    for encoder in (net, net.forward):
        with pytest.raises(ValueError, match="in training mode"):
            draw_codes(encoder, IMAGES, seed=0, n=10)


def with_holes(x):
    z = scaled(x)
    z[x[:, 0] == 1, 2] = math.nan
    z[x[:, 0] == 1, 0] = math.inf
    return z


def changing():
    widths = iter([2, 3])
    return lambda x: torch.zeros(len(x), next(widths))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (with_holes, r"\d+ of 20 codes are not finite, in the latents 0, 2$"),
        (lambda x: scaled(x)[:, 0], r"must return floats \(20, Z\), got torch.float32 \(20,\)"),
        (lambda x: scaled(x)[1:], r"must return floats \(20, Z\), got torch.float32 \(19, 3\)"),
        (lambda x: x.long(), r"must return floats \(20, Z\), got torch.int64 \(20, 3\)"),
        (changing(), r"must return floats \(20, 2\), got torch.float32 \(20, 3\)"),
        (lambda x: (x, x), r"must return one tensor \(N, Z\), got a tuple; of a VAE take the mean"),
    ],
)
def test_what_is_no_code_raises(encoder, message):
    with pytest.raises(ValueError, match=message):
        draw_codes(encoder, IMAGES, seed=0, n=60, encode_batch=20)


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        (factor_vae, {"n_train": 0}, "n_train must be at least 1, got 0"),
        (factor_vae, {"n_test": 0}, "n_test must be at least 1, got 0"),
        (factor_vae, {"batch_size": 1}, "batch_size must be at least 2, got 1"),
        (one_factor_varied, {"n_variance": 1}, "n_variance must be at least 2, got 1"),
        (beta_vae, {"n_train": 1}, "n_train must be at least 2, got 1"),
        (beta_vae, {"n_test": 0}, "n_test must be at least 1, got 0"),
        (beta_vae, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (draw_codes, {"n": 1}, "n must be at least 2, got 1"),
        (draw_codes, {"encode_batch": 0}, "encode_batch must be at least 1, got 0"),
        (all_metrics, {"n_train": 1}, "n_train must be at least 2, got 1"),
        (all_metrics, {"n_test": 1}, "n_test must be at least 2, got 1"),
        (all_metrics, {**FEW, "n_train_votes": 0, "predictor": "random_forest"}, "n_train must be at least 1, got 0"),
    ],
)
def test_counts_below_their_minimum_raise(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(scaled, IMAGES, seed=0, **arguments)


def test_points_of_one_factor_only_raise():
    same = [seed for seed in range(20) if len(torch.randint(3, (2,), generator=seeded(seed)).unique()) == 1]
    assert 0 < len(same) < 20
    for seed in same[:2]:
        with pytest.raises(ValueError, match="all 2 training points share the same factor"):
            beta_vae(scaled, IMAGES, seed=seed, n_train=2, n_test=1)


ON_ARRAYS = {
    "mig": mig,
    "modularity": modularity,
    "sap": lambda *sample: sap(*sample, n_train=100),
    "dci": lambda *sample: dci(*sample, seed=0, n_train=100, predictor="random_forest"),
    "r2": lambda *sample: factor_r2(*sample, n_train=100),
    "explicitness": lambda *sample: explicitness(*sample, n_train=100),
}


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_what_is_no_sample_raises(name):
    metric = ON_ARRAYS[name]
    codes, classes = whole(scaled)
    with pytest.raises(ValueError, match=r"codes must be floats of shape \(125, Z\).*\(124, 3\)"):
        metric(codes[1:], classes, GRID)
    with pytest.raises(ValueError, match=r"codes must be floats of shape \(125, Z\).*\(125,\)"):
        metric(codes[:, 0], classes, GRID)
    with pytest.raises(ValueError, match=r"codes must be floats.*torch\.int64"):
        metric(codes.long(), classes, GRID)
    with pytest.raises(ValueError, match=r"at least two; got torch.float32 \(1, 3\)"):
        metric(codes[:1], classes[:1], GRID)
    with pytest.raises(ValueError, match=r"b has the values 0\.\.4, found 7"):
        metric(codes, classes + torch.tensor([0, 3, 0]), GRID)
    holes = codes.clone()
    holes[3, 1] = math.nan
    with pytest.raises(ValueError, match="1 of 125 codes are not finite, in the latents 1"):
        metric(holes, classes, GRID)


@pytest.mark.parametrize("metric", [factor_vae, one_factor_varied, beta_vae, all_metrics])
def test_one_varying_factor_is_too_few_for_a_choice(metric):
    images = images_of(1, 4)
    with pytest.raises(ValueError, match=r"at least 2 varying factors, the grid has 1 \(values: a 1, b 4\)"):
        metric(lambda x: x, images, seed=0, n_train=20, n_test=10)


def test_too_few_factors_and_latents_raise():
    images = images_of(1, 4)
    codes, classes = whole(lambda x: torch.cat([x, x], 1), images, times=50)
    for name in ("modularity", "dci"):
        with pytest.raises(ValueError, match="at least 2 varying factors, the grid has 1"):
            ON_ARRAYS[name](codes, classes, images.grid)
    assert mig(codes, classes, images.grid).gaps.shape == (1,)
    nothing = images_of(1, 1)
    with pytest.raises(ValueError, match="at least 1 varying factor, the grid has 0"):
        mig(codes, classes * 0, nothing.grid)
    codes, classes = draw_codes(scaled, IMAGES, seed=0, n=125)
    for name in ("mig", "sap", "dci"):
        with pytest.raises(ValueError, match="needs at least 2, the codes have 1"):
            ON_ARRAYS[name](codes[:, :1], classes, GRID)
    assert factor_r2(codes[:, :1], classes, GRID, n_train=100).r2.shape == (3,)


@pytest.mark.parametrize("name", ["sap", "dci", "r2", "explicitness"])
def test_a_split_that_leaves_too_little_raises(name):
    codes, classes = whole(scaled)
    with pytest.raises(ValueError, match="n_train must be between 2 and 99, got 100"):
        ON_ARRAYS[name](codes[:101], classes[:101], GRID)
    with pytest.raises(ValueError, match="all 25 examples to test have the same a"):
        ON_ARRAYS[name](codes, classes, GRID)
    codes, classes = draw_codes(scaled, IMAGES, seed=0, n=125)
    classes[:100, 2] = 3
    with pytest.raises(ValueError, match="all 100 examples to fit have the same c"):
        ON_ARRAYS[name](codes, classes, GRID)


def test_other_arguments_out_of_range_raise():
    codes, classes = whole(scaled, times=2)
    for metric in (mig, modularity):
        with pytest.raises(ValueError, match="n_bins must be at least 2, got 1"):
            metric(codes, classes, GRID, n_bins=1)
    with pytest.raises(ValueError, match="all 25 examples have the same a"):
        mig(codes[:25], classes[:25], GRID)
    with pytest.raises(ValueError, match="predictor must be one of boosted_trees, random_forest; got 'lasso'"):
        dci(codes, classes, GRID, seed=0, n_train=125, predictor="lasso")
    with pytest.raises(ValueError, match="regressor must be one of linear, neighbours, random_forest; got 'svm'"):
        factor_r2(codes, classes, GRID, n_train=125, regressor="svm")
    with pytest.raises(ValueError, match="ten neighbours need n_train of at least 10, got 8"):
        factor_r2(*draw_codes(scaled, IMAGES, seed=0, n=50), GRID, n_train=8, regressor="neighbours")
