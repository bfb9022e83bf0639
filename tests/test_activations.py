"""Mean activations against codes whose means are known."""

import pytest
import torch

from vae_helpers.data import FactorGrid, FactorImages
from vae_helpers.evaluation.disentanglement import mean_activations

GRID = FactorGrid(("one", "shape", "size", "turn"), (1, 3, 4, 5))
IMAGES = FactorImages("plain", "classes as pixels", (1, 1, 4), GRID, lambda classes: classes.to(torch.uint8), white=1)


def encoder(x):
    return torch.stack([x[:, 2], x[:, 1] * (x[:, 3] - 2), 0 * x[:, 0]], dim=1)


def test_means_are_those_of_the_given_factors_and_flat_along_the_others():
    found = mean_activations(encoder, IMAGES, ("turn", "size"), seed=0, n_draws=40)
    assert found.shape == (5, 4, 3)
    torch.testing.assert_close(found[..., 0], torch.arange(4.0).expand(5, 4))
    assert (found[..., 2] == 0).all()


def test_a_latent_of_two_factors_shows_one_line_for_each_value_of_the_other():
    found = mean_activations(encoder, IMAGES, ("shape", "turn"), seed=0, n_draws=7)[..., 1]
    torch.testing.assert_close(found, torch.arange(3.0)[:, None] * (torch.arange(5.0) - 2))


def test_every_combination_sees_the_same_draws_of_the_other_factors():
    found = mean_activations(encoder, IMAGES, ("shape",), seed=3, n_draws=2)
    assert (found[:, 0] == found[0, 0]).all()
    assert not torch.equal(found, mean_activations(encoder, IMAGES, ("shape",), seed=4, n_draws=2))


def test_pieces_do_not_change_the_means():
    whole = mean_activations(encoder, IMAGES, ("size", "shape"), seed=0, n_draws=3)
    torch.testing.assert_close(
        whole, mean_activations(encoder, IMAGES, ("size", "shape"), seed=0, n_draws=3, encode_batch=5)
    )


@pytest.mark.parametrize("given", [("colour",), ("size", "size"), ()])
def test_factors_that_are_not_there_are_refused(given):
    with pytest.raises(ValueError, match="each once, of one, shape, size, turn"):
        mean_activations(encoder, IMAGES, given, seed=0)


def test_at_least_one_draw_is_wanted():
    with pytest.raises(ValueError, match="n_draws must be at least 1, got 0"):
        mean_activations(encoder, IMAGES, ("size",), seed=0, n_draws=0)
