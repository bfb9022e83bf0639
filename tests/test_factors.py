"""Factor grids, their codes, and streams of images with known factors."""

import itertools
import math

import pytest
import torch

from vae_helpers.data import FactorBatches, FactorCode, FactorGrid, FactorImages, load_dsprites

GRID = FactorGrid(("colour", "shape", "turn"), (1, 3, 5))


def written(classes):
    """Images of three pixels: the classes themselves."""
    return classes.to(torch.uint8)


IMAGES = FactorImages("classes", "a test", (1, 1, 3), GRID, written, white=4)


def test_positions_and_classes_are_one_another_in_the_order_of_a_nested_loop():
    expected = torch.tensor(list(itertools.product(range(1), range(3), range(5))))
    index = torch.arange(15)
    assert torch.equal(GRID.classes_of(index), expected)
    assert torch.equal(GRID.index_of(expected), index)
    assert GRID.n_images == 15
    assert GRID.varying == (1, 2)


def test_draws_are_uniform_and_independent():
    classes = GRID.sample(30_000, generator=torch.Generator().manual_seed(0))
    counts = GRID.index_of(classes).bincount(minlength=15)
    assert ((counts - 2000).abs() < 6 * math.sqrt(2000)).all()


def test_scaled_values_are_spread_over_the_range_and_back():
    classes = GRID.classes_of(torch.arange(15))
    scaled = GRID.scaled(classes)
    assert scaled[:, 0].abs().max() == 0
    torch.testing.assert_close(scaled[:5, 2], torch.tensor([-0.9, -0.45, 0.0, 0.45, 0.9]))
    torch.testing.assert_close(scaled[::5, 1], torch.tensor([-0.9, 0.0, 0.9]))
    assert torch.equal(GRID.unscaled(scaled + 0.1), classes)
    assert torch.equal(GRID.unscaled(torch.full((1, 3), 9.0)), torch.tensor([[0, 2, 4]]))
    assert torch.equal(GRID.unscaled(torch.full((1, 3), -9.0)), torch.tensor([[0, 0, 0]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FactorGrid((), ()), "one name and one size"),
        (lambda: FactorGrid(("a",), (2, 3)), "one name and one size"),
        (lambda: FactorGrid(("a", "b"), (2, 0)), "one size >= 1"),
        (lambda: GRID.classes_of(torch.tensor([0, 15])), r"positions must lie in 0\.\.14, found 0 to 15"),
        (lambda: GRID.classes_of(torch.tensor([-1])), "found -1 to -1"),
        (lambda: GRID.index_of(torch.tensor([[0, 0, 5]])), r"turn has the values 0\.\.4, found 5"),
        (lambda: list(IMAGES.chunks(batch_size=0)), "batch_size must be at least 1, got 0"),
        (lambda: FactorBatches(IMAGES, batch_size=0, seed=0), "batch_size must be at least 1, got 0"),
        (lambda: FactorCode(GRID, circular=("colour",)), "colour cannot be circular; choose among shape, turn"),
        (lambda: FactorCode(GRID).latents_of("colour"), "unknown factor 'colour'; choose one of shape, turn"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_whole_grid_comes_in_order_and_in_pieces():
    parts = list(IMAGES.chunks(batch_size=4))
    assert [len(x) for _, x in parts] == [4, 4, 4, 3]
    assert torch.equal(torch.cat([classes for classes, _ in parts]), GRID.classes_of(torch.arange(15)))
    assert torch.equal(torch.cat([x for _, x in parts]), GRID.classes_of(torch.arange(15)) / 4)


def test_the_whole_grid_shows_its_progress(capsys):
    list(IMAGES.chunks(batch_size=5, progress=True))
    assert "3/3" in capsys.readouterr().err


# ---- streams


def test_a_stream_is_uniform_and_its_images_are_those_of_its_factors():
    batches = FactorBatches(IMAGES, batch_size=100, seed=0)
    drawn = [batches.take(batches.draw()) for _ in range(60)]
    for x, classes in drawn:
        assert x.dtype == torch.float32
        assert torch.equal(x, classes / 4)
    counts = GRID.index_of(torch.cat([classes for _, classes in drawn])).bincount(minlength=15)
    assert ((counts - 400).abs() < 6 * math.sqrt(400)).all()


def test_a_stream_goes_on_where_another_stopped_and_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    whole, first, second = (FactorBatches(IMAGES, batch_size=8, seed=3) for _ in range(3))
    expected = [whole.draw() for _ in range(6)]
    found = [first.draw() for _ in range(3)]
    second.load_state_dict(first.state_dict())
    found += [second.draw() for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(expected[0], FactorBatches(IMAGES, batch_size=8, seed=4).draw())


# ---- codes


def test_a_code_has_a_latent_for_every_factor_that_varies():
    code = FactorCode(GRID)
    classes = GRID.classes_of(torch.arange(15))
    assert code.latents == ("shape", "turn")
    assert code.z_dim == 2
    assert code.widths == (1, 1)
    torch.testing.assert_close(code.of(classes), GRID.scaled(classes)[:, 1:])
    torch.testing.assert_close(code.steps(), torch.tensor([0.9, 0.45]))


def test_a_circular_factor_lies_on_a_circle_and_ends_where_it_begins():
    code = FactorCode(GRID, circular=("turn",))
    assert code.latents == ("shape", "turn_cos", "turn_sin")
    assert code.latents_of("turn") == slice(1, 3)
    z = code.of(GRID.classes_of(torch.arange(5)))[:, 1:]
    torch.testing.assert_close(z.norm(dim=1), torch.full((5,), 0.9))
    assert torch.equal(z[0], z[4])
    turned = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # a quarter turn a value
    torch.testing.assert_close(z[1:], z[:-1] @ turned.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(code.steps()[1:], torch.full((2,), 0.9 * math.sqrt(2)))


@pytest.mark.parametrize("circular", [(), ("turn",), ("shape", "turn")])
def test_codes_between_the_grid_agree_with_those_on_it(circular):
    code = FactorCode(GRID, circular=circular)
    classes = GRID.classes_of(torch.arange(15))
    torch.testing.assert_close(code.at(GRID.scaled(classes)[:, 1:]), code.of(classes), rtol=0, atol=1e-6)
    halfway = code.at(torch.tensor([[0.45, 0.0]]))
    assert halfway.shape == (1, code.z_dim)
    assert halfway[0, 0] == 0.45 or "shape" in circular


def test_the_code_of_dsprites_is_that_of_its_factors():
    grid = load_dsprites().grid
    code = FactorCode(grid)
    assert code.latents == ("shape", "scale", "orientation", "x", "y")
    classes = grid.sample(50)
    torch.testing.assert_close(code.of(classes), grid.scaled(classes)[:, 1:])
    assert [len(values) for values in code.values()] == [3, 6, 40, 32, 32]
