"""Networks and models: shapes, widths that must raise, and the float32 promise under bfloat16."""

import pytest
import torch

from vae_helpers.likelihoods import Bernoulli, GaussianPerPixel
from vae_helpers.models import VAE, Autoencoder
from vae_helpers.nets import MLP, ConvDecoder, ConvEncoder, he_init
from vae_helpers.priors import StandardNormal


def small_vae():
    return VAE(MLP(6, [5], 4), MLP(2, [5], 6), Bernoulli(), StandardNormal(2))


def small_autoencoder():
    return Autoencoder(MLP(6, [5], 2), MLP(2, [5], 6), Bernoulli(), z_dim=2)


def test_mlp_without_hidden_layers_is_one_linear_map():
    net = MLP(3, [], 2)
    x = torch.randn(7, 3)
    torch.testing.assert_close(net(x), x @ net[0].weight.mT + net[0].bias)


def test_mlp_ends_linear_and_keeps_leading_axes():
    net = MLP(3, [4, 5], 2, activation="softplus")
    assert net(torch.randn(6, 7, 3)).shape == (6, 7, 2)
    assert isinstance(net[-1], torch.nn.Linear)
    assert [layer.out_features for layer in net if isinstance(layer, torch.nn.Linear)] == [4, 5, 2]


@pytest.mark.parametrize("widths", [(0, [4], 2), (3, [0], 2), (3, [4], 0)])
def test_mlp_layer_without_units_raises(widths):
    with pytest.raises(ValueError, match="at least one unit"):
        MLP(*widths)


def test_unknown_activation_raises_and_lists_the_known():
    with pytest.raises(ValueError, match=r"'gelo'.*relu"):
        MLP(3, [4], 2, activation="gelo")


def test_images_that_are_not_flat_raise_instead_of_being_read_by_row():
    with pytest.raises(ValueError, match=r"784.*\(4, 28, 28\)"):
        MLP(784, [4], 2)(torch.zeros(4, 28, 28))
    with pytest.raises(ValueError, match="256"):
        ConvEncoder((1, 16, 16), 4, channels=(2, 2))(torch.zeros(4, 1, 16, 16))


def test_conv_nets_mirror_each_other_on_flat_images():
    shape = (3, 16, 8)
    encoder = ConvEncoder(shape, 4, channels=(2, 4, 4), h_dim=8)
    decoder = ConvDecoder(4, shape, channels=(2, 4, 4), h_dim=8)
    x = torch.rand(5, 3 * 16 * 8)
    assert encoder(x).shape == (5, 4)
    assert decoder(encoder(x)).shape == x.shape
    assert decoder(torch.zeros(2, 5, 4)).shape == (2, 5, 3 * 16 * 8)


def test_conv_encoder_reads_images_in_channel_row_column_order():
    encoder = ConvEncoder((1, 8, 8), 2, channels=(2,), h_dim=4)
    image = torch.rand(3, 1, 8, 8)
    hidden = encoder.hidden_layer(encoder.conv.layers(image).flatten(1)).relu()
    torch.testing.assert_close(encoder(image.flatten(1)), encoder.head(hidden))


def test_an_image_that_cannot_be_halved_that_often_raises():
    for net in (lambda: ConvEncoder((1, 15, 28), 4), lambda: ConvDecoder(4, (1, 15, 28))):
        with pytest.raises(ValueError, match="15x28 cannot be halved 4 times"):
            net()


def test_vae_encodes_to_a_mean_and_a_log_variance():
    model, x = small_vae(), torch.rand(3, 6)
    q_mu, q_logvar = model.encode(x)
    torch.testing.assert_close(torch.cat([q_mu, q_logvar], -1), model.encoder(x))
    assert model.z_dim == q_mu.shape[-1] == 2


def test_decode_mean_is_the_mean_of_the_likelihood():
    z = torch.randn(4, 3, 2)
    for model in (small_vae(), small_autoencoder()):
        torch.testing.assert_close(model.decode_mean(z), torch.sigmoid(model.decoder(z)))
    per_pixel = VAE(MLP(6, [], 4), MLP(2, [], 12), GaussianPerPixel(), StandardNormal(2))
    assert per_pixel.decode_mean(z).shape == (4, 3, 6)


@pytest.mark.parametrize("make", [small_vae, small_autoencoder])
def test_densities_get_float32_under_bfloat16(make):
    model, x = make(), torch.rand(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encoder(x).dtype == torch.bfloat16  # autocast is on
        code = model.encode(x)
        z = code[0] if isinstance(code, tuple) else code
        assert z.dtype == torch.float32
        assert model.decode(torch.zeros(3, 2)).dtype == torch.float32


def test_prior_density_and_samples():
    prior = StandardNormal(3)
    torch.manual_seed(0)
    z = prior.sample(50_000)
    torch.testing.assert_close(prior.log_prob(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1))
    assert z.shape == (50_000, 3)
    assert (z.mean(0).abs() < 6 / 50_000**0.5).all()  # 6 standard errors
    with pytest.raises(ValueError, match="got 0"):
        StandardNormal(0)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Linear(400, 3000), (50, 400)),
        (torch.nn.Conv2d(24, 200, 4, stride=2, padding=1), (4, 24, 32, 32)),
        (torch.nn.ConvTranspose2d(100, 200, 4, stride=2, padding=1), (4, 100, 16, 16)),
    ],
    ids=["linear", "convolution", "transposed"],
)
def test_he_weights_keep_the_size_of_what_passes_a_relu(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    net = torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Linear(1, 1))
    last = [p.clone() for p in net[-1].parameters()]
    he_init(net)
    out = torch.relu(layer(x))
    inside = out[..., 1:-1, 1:-1] if out.ndim == 4 else out  # borders are sums of fewer
    assert inside.square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.05)
    assert all(torch.equal(a, b) for a, b in zip(last, net[-1].parameters(), strict=True))
