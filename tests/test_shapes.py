"""Pictures of any shape: grey and colour, odd sizes, any number of classes, through nets, views and explorers."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from vae_helpers.data import random_affine
from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.explorer import ComparisonExplorer, ComponentExplorer, LabelExplorer, LatentExplorer, LatentPad
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import VAE, ConditionalVAE
from vae_helpers.nets import MLP, ConvDecoder, ConvEncoder, CropDecoder, JointMLP, conv_channels
from vae_helpers.plotting import tile
from vae_helpers.priors import MixturePrior, StandardNormal
from vae_helpers.training import GradientStep, fit

SHAPES = [(28, 28), (33, 29), (1, 16, 16), (3, 32, 32), (3, 48, 40), (3, 128, 96), (8, 30)]


@pytest.mark.parametrize("n_params", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nets_read_and_write_images_of_any_shape(shape, n_params):
    d, channels = math.prod(shape), conv_channels(shape)
    encoder, decoder = (
        ConvEncoder(shape, 4, channels=channels),
        ConvDecoder(4, shape, channels=channels, n_params=n_params),
    )
    x = torch.rand(2, d)
    assert encoder(x).shape == (2, 4)
    assert decoder(encoder(x)).shape == (2, n_params * d)
    assert CropDecoder(4, shape, n_params=n_params)(torch.randn(3, 2, 4)).shape == (3, 2, n_params * d)
    decoder(encoder(x)).sum().backward()
    assert all(p.grad is not None for p in [*encoder.parameters(), *decoder.parameters()])


def test_default_channels_halve_while_eight_pixels_are_left():
    found = {side: conv_channels((side, 200)) for side in (7, 8, 16, 28, 32, 64, 105, 128)}
    assert {side: len(channels) for side, channels in found.items()} == {
        7: 1, 8: 1, 16: 2, 28: 2, 32: 3, 64: 4, 105: 4, 128: 5
    }  # fmt: skip
    assert found[64] == (32, 32, 64, 64)  # the published nets of dSprites


def test_an_odd_row_and_column_reach_the_code_and_come_back():
    """The last column of 29 is read by the first convolution and written by the last one."""
    encoder, decoder = ConvEncoder((5, 29), 2, channels=(3,)), ConvDecoder(2, (5, 29), channels=(3,))
    x = torch.rand(1, 5 * 29, requires_grad=True)
    encoder(x).sum().backward()
    assert (x.grad.view(5, 29)[:, -1] != 0).any()
    out = decoder(torch.randn(1, 2)).view(5, 29)
    assert not torch.equal(out[:, -1], out[:, -2])


def test_a_crop_decoder_of_a_tiny_image_and_shapes_that_are_no_image_raise():
    with pytest.raises(ValueError, match="image of 5x28 is too small"):
        CropDecoder(3, (5, 28))
    for shape in ((28,), (1, 2, 3, 4), (0, 5)):
        with pytest.raises(ValueError, match=r"an image is \(H, W\) or \(C, H, W\)"):
            ConvEncoder(shape, 2, channels=(3,))


def test_an_affine_map_moves_all_colours_alike():
    grey = torch.randint(256, (4, 11 * 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    expected = random_affine(grey, (11, 9))
    torch.manual_seed(1)
    found = random_affine(grey.repeat(1, 3), (3, 11, 9))
    assert torch.equal(found, expected.repeat(1, 3))
    with pytest.raises(ValueError, match=r"shape \(B, 297\)"):
        random_affine(grey, (3, 11, 9))


def vae(shape, z_dim=3, prior=None):
    torch.manual_seed(0)
    d = math.prod(shape)
    encoder, decoder = (MLP(a, (5,), b, activation="relu") for a, b in ((d, 2 * z_dim), (z_dim, d)))
    return VAE(encoder, decoder, Bernoulli(), prior or StandardNormal(z_dim)).eval()


def conditional(shape, k):
    torch.manual_seed(0)
    d = math.prod(shape)
    encoder = JointMLP([d, k], (5,), 6, activation="relu")
    decoder = JointMLP([3, k], (5,), d, activation="relu")
    return ConditionalVAE(encoder, decoder, Bernoulli(), StandardNormal(3), n_classes=k).eval()


def picture(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def check_explorer(explorer, shape):
    """The page has the shape, the code decodes to a picture of it, and there is a still."""
    assert explorer.spec["shape"] == ([1, *shape] if len(shape) == 2 else list(shape))
    assert all(model["decoder"]["size"] == math.prod(shape) for model in explorer.spec["models"])
    assert explorer.pictures().shape == (len(explorer.spec["models"]), math.prod(shape))
    still = Image.open(io.BytesIO(explorer.still))
    assert min(still.size) > 30
    assert explorer._repr_mimebundle_()[0]["image/png"]


@pytest.mark.parametrize("shape", [(28, 28), (1, 9, 7), (33, 29), (3, 12, 11)], ids=str)
def test_every_explorer_shows_pictures_of_any_shape(shape):
    x = torch.rand(8, math.prod(shape), generator=torch.Generator().manual_seed(0))
    check_explorer(LatentExplorer(vae(shape), x, shape=shape), shape)
    check_explorer(LatentPad(vae(shape, z_dim=2), x, shape=shape), shape)
    check_explorer(ComponentExplorer(vae(shape, prior=MixturePrior.random(4, 3)), x, shape=shape), shape)


@pytest.mark.parametrize("k", [2, 5, 13])
@pytest.mark.parametrize("shape", [(28, 28), (1, 9, 7), (33, 29), (3, 12, 11)], ids=str)
def test_explorers_with_labels_take_any_shape_and_number_of_classes(shape, k):
    x = torch.rand(k, math.prod(shape), generator=torch.Generator().manual_seed(0))
    y, names = torch.arange(k), [f"class {j}" for j in range(k)]
    explorer = LabelExplorer(conditional(shape, k), x, y, shape=shape, classes=names)
    assert explorer.spec["classes"] == names
    check_explorer(explorer, shape)
    models = {"one": conditional(shape, k), "two": conditional(shape, k)}
    check_explorer(ComparisonExplorer(models, x, y, shape=shape, classes=names), shape)
    with pytest.raises(ValueError, match=f"{k} classes, but 1 names"):
        LabelExplorer(conditional(shape, k), x, y, shape=shape, classes=["a"])


def test_a_shape_that_does_not_fit_is_one_sentence():
    x = torch.rand(4, 36)
    for shape in ((6, 7), (3, 6, 6)):
        with pytest.raises(ValueError, match=r"need rows of \d+ values"):
            LatentExplorer(vae((6, 6)), x, shape=shape)
    with pytest.raises(ValueError, match=r"\(H, W\), \(1, H, W\) or \(3, H, W\), got \(4, 3, 3\)"):
        tile(x, (4, 3, 3), n_columns=2)


def test_a_traversal_of_a_model_whose_gradients_are_on_moves_one_latent_per_row():
    model, x = vae((6, 6)), torch.rand(9, 36)
    z = model.encode(x)[0][0]
    assert z.requires_grad
    moments = aggregate_posterior(model, x)
    codes = moments.traversal(z, [2, 0], torch.tensor([-1.0, 2.0])).view(2, 2, 3)
    expected = z.detach().repeat(2, 2, 1)
    for row, latent in enumerate((2, 0)):
        expected[row, :, latent] = moments.mean[latent] + torch.tensor([-1.0, 2.0]) * moments.sd[latent]
    torch.testing.assert_close(codes, expected)
    assert not codes.requires_grad


# ---- arguments that would be ignored


@pytest.mark.parametrize("ignored", [{"lr": 0.1}, {"bf16": True}, {"compiled": False}])
def test_fit_refuses_settings_of_the_step_beside_an_update(ignored):
    from vae_helpers import objectives
    from vae_helpers.data import Batches

    model = vae((4, 4))
    batches = Batches(torch.rand(20, 16).round(), batch_size=5, seed=0)
    update = GradientStep(model, objectives.elbo)
    (name,) = ignored
    with pytest.raises(ValueError, match=f"an update has its own {name}: set them there"):
        fit(model, batches, update=update, steps=2, progress=False, **ignored)
    history = fit(model, batches, update=update, steps=np.int64(2), log_every=np.int64(1), progress=False)
    assert [type(row["step"]) for row in history.rows] == [float, float]
