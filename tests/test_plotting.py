"""Figures are arrays put in the right place."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from vae_helpers.plotting import Backdrop, normal_grid, plot_components, plot_grid, plot_latents, save_gif, tile, to_png


def test_tiles_are_laid_out_by_rows_with_ink_dark():
    canvas = tile(np.array([[0.0] * 4, [1.0] * 4, [0.25] * 4]), (2, 2), n_columns=2, pad=1)
    assert canvas.shape == (5, 5)
    assert canvas[0, 0] == 1  # 0 is white
    assert canvas[0, 3] == 0  # 1 is black
    assert canvas[3, 0] == 0.75
    assert (canvas[3:, 3:] == 1).all()  # nothing there


def test_lines_between_tiles_have_their_grey_and_missing_tiles_are_white():
    canvas = tile(np.ones((3, 4)), (2, 2), n_columns=2, pad=1, between=0.5)
    assert canvas[:2, :2].max() == 0
    assert canvas[2].tolist() == canvas[:, 2].tolist() == [0.5] * 5
    assert canvas[3:, 3:].min() == 1


def test_colour_tiles_keep_their_colours():
    red = np.concatenate([np.ones(4), np.zeros(8)])
    assert tile(red[None], (3, 2, 2), n_columns=1)[0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("images", "shape", "n_columns"),
    [(np.zeros((2, 5)), (2, 2), 1), (np.zeros(4), (2, 2), 1), (np.zeros((1, 4)), (2, 2), 0)],
)
def test_images_that_do_not_fit_raise(images, shape, n_columns):
    with pytest.raises(ValueError, match=r"images of shape|n_columns"):
        tile(images, shape, n_columns=n_columns)


def test_the_manifold_grid_has_equal_prior_mass_between_its_lines():
    grid = normal_grid(5, margin=0.1).reshape(5, 5, 2)
    np.testing.assert_allclose(norm.cdf(grid[0, :, 0]), np.linspace(0.1, 0.9, 5), atol=1e-6)
    np.testing.assert_allclose(norm.cdf(grid[:, 0, 1]), np.linspace(0.9, 0.1, 5), atol=1e-6)  # up is the first row


@pytest.mark.parametrize(("n", "margin"), [(0, 0.1), (3, 0.0), (3, 0.5)])
def test_a_grid_out_of_range_raises(n, margin):
    with pytest.raises(ValueError, match="need n >= 1"):
        normal_grid(n, margin=margin)


def test_row_labels_stand_at_the_middle_of_their_rows():
    ax = plot_grid(np.zeros((6, 16)), (4, 4), n_columns=3, row_labels=["a", "b"])
    assert ax.get_yticks().tolist() == [1.5, 6.5]
    plt.close("all")


def test_codes_must_be_two_dimensional():
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        plot_latents(np.zeros((4, 3)))


def test_a_backdrop_puts_points_at_data_coordinates():
    figure, ax = plt.subplots(figsize=(2, 2), dpi=100)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_position((0, 0, 1, 1))
    figure.set_layout_engine("none")
    ax.axis("off")
    backdrop = Backdrop(ax)
    picture = np.asarray(backdrop.with_points([[0.25, 0.75]], colour="black"))
    assert picture[50, 50].tolist() == [0, 0, 0]
    assert picture[150, 150].tolist() == [255, 255, 255]
    assert np.asarray(backdrop.image)[50, 50].tolist() == [255, 255, 255]  # the backdrop itself stays clean


def test_png_and_gif_hold_what_was_drawn(tmp_path):
    picture = np.asarray(Image.open(io.BytesIO(to_png(np.array([[0.0, 1.0]]), scale=3))))
    assert picture.shape == (3, 6)
    assert (picture[:, :3] == 0).all()
    assert (picture[:, 3:] == 255).all()
    save_gif([np.zeros((4, 4)), np.ones((4, 4))], tmp_path / "a.gif", fps=5)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2


def test_a_gif_needs_frames(tmp_path):
    with pytest.raises(ValueError, match="frames"):
        save_gif([], tmp_path / "a.gif")


def test_components_are_drawn_with_their_own_axes_in_units_of_the_data():
    p_mu, p_logvar = [[0.0, 0.0], [3.0, -1.0]], np.log([[1.0, 4.0], [0.25, 0.25]])
    ax = plot_components(p_mu, p_logvar, n_sd=2.0)
    (ellipses,) = ax.collections
    np.testing.assert_allclose(ellipses.get_offsets(), p_mu)
    np.testing.assert_allclose(ellipses.get_widths(), [4.0, 2.0])  # two standard deviations either way
    np.testing.assert_allclose(ellipses.get_heights(), [8.0, 2.0])
    assert ellipses.get_datalim(ax.transData).contains(3, -1)
    with pytest.raises(ValueError, match=r"must be \(K, 2\)"):
        plot_components(np.zeros((2, 3)), np.zeros((2, 3)))
