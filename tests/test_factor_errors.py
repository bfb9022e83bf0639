"""What a factor explains of the pixels, against a data set in which it is known."""

import pytest
import torch

from vae_helpers.data import FactorGrid, FactorImages, load_portraits
from vae_helpers.evaluation.disentanglement import at_all_values, error_without

GRID = FactorGrid(names=("a", "b"), sizes=(3, 2))


def images():
    """Two pixels: the first is a / 2, the second a / 2 where b is 1 and 0 elsewhere."""

    def render(classes):
        a, b = classes.unbind(1)
        return torch.stack([a, a * b], dim=1).to(torch.uint8)

    return FactorImages(name="two", source="made here", shape=(1, 1, 2), grid=GRID, render=render, white=2)


def test_one_factor_takes_all_values_and_the_others_stay():
    x = at_all_values(images(), "a", n=50)
    assert x.shape == (50, 3, 2)
    assert (x[:, :, 0] == torch.tensor([0, 0.5, 1])).all()
    b = x[:, 2, 1]
    assert set(b.tolist()) == {0.0, 1.0}
    assert torch.equal(x[:, 1, 1], b / 2)


def test_the_error_is_the_variance_over_the_factors_values():
    variance = torch.tensor([0, 0.5, 1]).var(correction=0).item()
    found = error_without(images(), "a", n=4000)
    assert found == pytest.approx(1.5 * variance, rel=0.02)  # the second pixel shows a in half of the images
    assert error_without(images(), "a", n=10, seed=3) == error_without(images(), "a", n=10, seed=3)


def test_of_portraits_the_background_explains_more_than_the_smile():
    portraits = load_portraits()
    assert error_without(portraits, "background", n=5) > 10 * error_without(portraits, "smile", n=5)


def test_an_unknown_factor_and_no_image_are_refused():
    with pytest.raises(ValueError, match="no factor 'c'; there are a, b"):
        error_without(images(), "c", n=1)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        at_all_values(images(), "a", n=0)
