"""Explorers without a browser: what Python tells the page, and what it sees of it."""

import base64

import numpy as np
import pytest
import torch

from vae_helpers.data import FactorCode, FactorGrid
from vae_helpers.experiments import conditional, m1, m2, sprites, supervised
from vae_helpers.experiments.conditional import ConditionalConfig
from vae_helpers.experiments.m1 import M1Config
from vae_helpers.experiments.m2 import M2Config
from vae_helpers.experiments.supervised import SupervisedConfig
from vae_helpers.explorer import (
    ComparisonExplorer,
    ComponentExplorer,
    FactorExplorer,
    LabelExplorer,
    LatentExplorer,
    LatentPad,
    SliderPanel,
)
from vae_helpers.models import VAE

PNG = b"\x89PNG"


@pytest.fixture
def x():
    return torch.rand(12, 784, generator=torch.Generator().manual_seed(0))


def build(z_dim, model="vae"):
    torch.manual_seed(0)
    return m1.build(M1Config(z_dim=z_dim, h_dims=(16,), model=model)).eval()


def test_sliders_are_sorted_by_kl_and_say_it(x):
    model = build(5)
    fields = LatentExplorer(model, x, shape=(28, 28)).spec
    with torch.no_grad():
        q_mu, q_logvar = model.encode(x)
    kl = 0.5 * (q_mu**2 + q_logvar.exp() - 1 - q_logvar).mean(0)
    order = [j for j in kl.argsort(descending=True).tolist() if kl[j] >= 0.05]
    order = order or kl.argsort(descending=True).tolist()
    assert fields["models"][0]["order"] == order
    assert fields["sliders"] == [{"name": f"z{j + 1}", "detail": f"KL {kl[j]:.1f}"} for j in order]


def test_a_collapsed_latent_has_no_slider(x):
    model = build(4)
    with torch.no_grad():
        model.encoder[-1].weight[[1, 5]] = 0  # mean and log variance of the second latent
        model.encoder[-1].bias[[1, 5]] = 0
        model.encoder[-1].bias[0] += 3
    order = LatentExplorer(model, x, shape=(28, 28)).spec["models"][0]["order"]
    assert 0 in order
    assert 1 not in order


def test_it_starts_at_the_first_example_and_goes_to_another(x):
    model = build(5)
    explorer = LatentExplorer(model, x, shape=(28, 28))
    with torch.no_grad():
        codes, pictures = model.encode(x)[0], model.decode_mean(model.encode(x)[0])
    torch.testing.assert_close(torch.tensor(explorer.z), codes[0])
    explorer.start_from(7)
    assert explorer.example == 7
    torch.testing.assert_close(torch.tensor(explorer.z), codes[7])
    torch.testing.assert_close(explorer.pictures()[0], pictures[7])
    with pytest.raises(IndexError, match="examples 0 to 11, not 12"):
        explorer.start_from(12)


def test_units_are_standard_deviations_of_the_aggregate_posterior(x):
    model = build(3)
    fields = LatentExplorer(model, x, shape=(28, 28)).spec["models"][0]
    with torch.no_grad():
        q_mu, q_logvar = model.encode(x)
    torch.testing.assert_close(torch.tensor(fields["mean"]), q_mu.mean(0))
    sd = (q_mu.var(0) + q_logvar.exp().mean(0)).sqrt()
    torch.testing.assert_close(torch.tensor(fields["sd"]), sd, rtol=0.05, atol=1e-3)


def test_an_autoencoder_has_latents_without_a_kl(x):
    sliders = LatentExplorer(build(3, "autoencoder"), x, shape=(28, 28)).spec["sliders"]
    assert [slider["detail"] for slider in sliders] == [""] * 3


def test_a_pad_needs_two_latents(x):
    assert LatentPad(build(2), x, torch.arange(12) % 3, shape=(28, 28)).spec["classes"] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="this one has 3"):
        LatentPad(build(3), x, shape=(28, 28))


def test_one_image_has_no_spread(x):
    with pytest.raises(ValueError, match="two images or more"):
        LatentExplorer(build(3), x[:1], shape=(28, 28))


class Odd(VAE):
    """A model that a page must not take for a VAE."""

    def decode_mean(self, z):
        return super().decode_mean(z).flip(-1)


def test_a_model_that_the_page_cannot_run_is_decoded_by_the_kernel(x):
    plain = build(3)
    model = Odd(plain.encoder, plain.decoder, plain.likelihood, plain.prior).eval()
    explorer = LatentExplorer(model, x, shape=(28, 28))
    fields = explorer.spec["models"][0]
    assert fields["decoder"] is None
    assert fields["why"] == "The page cannot run the model Odd"
    sent = []
    explorer.send = lambda content, buffers=(): sent.append((content, buffers))
    explorer._answer(explorer, {"kind": "decode", "id": 4, "model": 0, "z": [0.5, -1.0, 2.0], "label": None}, [])
    content, (pixels,) = sent[0]
    assert content == {"id": 4}
    with torch.no_grad():
        expected = model.decode_mean(torch.tensor([[0.5, -1.0, 2.0]]))[0]
    np.testing.assert_allclose(np.frombuffer(pixels, "<f4"), expected.numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="3 values on the last axis"):  # and the page is told
        explorer._answer(explorer, {"kind": "decode", "id": 5, "model": 0, "z": [0.5], "label": None}, [])
    assert sent[1][0]["id"] == 5
    assert "3 values on the last axis" in sent[1][0]["error"]


@pytest.mark.parametrize(
    "make", [lambda x: LatentExplorer(build(4), x, shape=(28, 28)), lambda x: LatentPad(build(2), x, shape=(28, 28))]
)
def test_an_output_holds_a_still_picture_and_on_demand_the_page(x, make, monkeypatch):
    explorer = make(x)
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert "run this cell" in data["text/plain"]
    assert "text/html" not in data
    monkeypatch.setenv("VAE_EMBED", "1")
    data = explorer._repr_mimebundle_()[0]
    assert 'class="vae-live"' in data["text/html"]


@pytest.fixture
def labelled():
    """An M2, twelve examples and their labels."""
    torch.manual_seed(0)
    model = m2.build(M2Config(z_dim=5, h_dims=(16,))).eval()
    return model, torch.rand(12, 784), torch.arange(12) % 10


def test_an_example_brings_its_label_and_the_picture_follows_another_one(labelled):
    model, x, y = labelled
    explorer = LabelExplorer(model, x, y, shape=(28, 28))
    explorer.start_from(4)
    assert explorer.label == 4
    with torch.no_grad():
        code = model.encode(x, model.one_hot(y))[0][4]
        torch.testing.assert_close(torch.tensor(explorer.z), code)
        explorer.label = 7
        expected = model.decode_mean(code[None], torch.eye(10)[7:8])
    torch.testing.assert_close(explorer.pictures(), expected)


def test_labels_that_do_not_fit_the_examples_are_refused(labelled):
    model, x, y = labelled
    with pytest.raises(ValueError, match="agree in length"):
        LabelExplorer(model, x, y[:5], shape=(28, 28))
    with pytest.raises(ValueError, match="10 classes, but 2 names"):
        LabelExplorer(model, x, y, shape=(28, 28), classes=["a", "b"])


@pytest.fixture
def placements():
    """Two conditional VAEs that differ in where the label enters, twelve examples and their labels."""
    torch.manual_seed(0)
    models = {
        placement: conditional.build(ConditionalConfig(placement=placement, z_dim=5)).eval()
        for placement in ("both", "encoder")
    }
    return models, torch.rand(12, 784), torch.arange(12) % 10


def test_a_comparison_shows_each_model_at_its_own_code_of_the_example(placements):
    models, x, y = placements
    explorer = ComparisonExplorer(models, x, y, shape=(28, 28), n_sliders=3)
    explorer.start_from(4)
    assert explorer.label == 4
    assert [len(model["order"]) for model in explorer.spec["models"]] == [3, 3]
    assert explorer.spec["relative"]
    with torch.no_grad():
        for found, picture, model in zip(explorer.codes(), explorer.pictures(), models.values(), strict=True):
            one_hot = model.one_hot(y)
            code = model.encode(x, one_hot)[0][4]
            torch.testing.assert_close(found, code)
            torch.testing.assert_close(picture, model.decode_mean(code[None], one_hot[4:5])[0])
    before = explorer.pictures()
    explorer.label = 7
    changed = (explorer.pictures() != before).any(-1)
    assert changed.tolist() == [True, False]  # only the decoder that is given the label follows it


def test_a_comparison_of_nothing_is_refused(placements):
    with pytest.raises(ValueError, match="at least one model"):
        ComparisonExplorer({}, *placements[1:], shape=(28, 28))


def mixture_model(prior="mixture"):
    torch.manual_seed(0)
    model = m1.build(M1Config(z_dim=4, h_dims=(16,), prior=prior, n_components=6)).eval()
    with torch.no_grad():
        if prior == "mixture":
            model.prior.p_mu.mul_(20)  # apart from each other
        else:
            model.prior.pseudo_inputs.copy_(torch.rand(6, 784))
    return model


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_components_come_by_their_share_with_mean_and_sd(x, prior):
    model = mixture_model(prior)
    explorer = ComponentExplorer(model, x, shape=(28, 28), n_sliders=3)
    components = explorer.spec["components"]
    with torch.no_grad():
        share = model.prior.component_probs(model.encode(x)[0]).mean(0)
        p_mu, p_logvar = model.prior.components()
    assert components["number"] == share.argsort(descending=True).tolist()
    assert components["share"] == pytest.approx(share[components["number"]].tolist())
    np.testing.assert_allclose(explorer._array(components["mean"]), p_mu.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(explorer._array(components["sd"]), torch.exp(0.5 * p_logvar.detach()).numpy(), rtol=1e-6)


def test_components_need_a_mixture(x):
    with pytest.raises(ValueError, match="prior is StandardNormal, no mixture"):
        ComponentExplorer(build(4), x, shape=(28, 28))


def test_an_error_while_drawing_is_shown_and_raised():
    def render(values):
        if values[0] > 0:
            raise ValueError("no picture here")
        return torch.zeros(4, 4).numpy()

    panel = SliderPanel(render, names=["z"])
    with pytest.raises(ValueError, match="no picture here"):
        panel.sliders[0].value = 1.0
    assert "no picture here" in panel.message.value
    panel.sliders[0].value = -1.0
    assert panel.message.value == ""


# ---- known factors


def factor_models(code, names=("a", "b")):
    torch.manual_seed(0)
    return {name: supervised.build(SupervisedConfig(code=code)).eval() for name in names}


@pytest.mark.parametrize("code", ["line", "circle"])
def test_factor_sliders_start_in_the_middle_of_the_grid(code):
    models, images = factor_models(code), sprites.images_of("rendered")
    explorer = FactorExplorer(models, images, sprites.CODES[code])
    factors = explorer.spec["factors"]
    assert [slider["name"] for slider in explorer.spec["sliders"]] == ["shape", "scale", "orientation", "x", "y"]
    assert factors["circular"] == [False, False, code == "circle", False, False]
    middle = images.grid.scaled(torch.tensor([[0, 1, 3, 20, 16, 16]]))[0, 1:]
    assert factors["start"] == pytest.approx(middle.tolist())
    expected = sprites.CODES[code].at(middle[None])
    for z, picture, model in zip(explorer.codes(), explorer.pictures(), models.values(), strict=True):
        torch.testing.assert_close(z, expected[0])
        with torch.inference_mode():
            torch.testing.assert_close(picture, model.decode_mean(expected)[0])
    assert explorer.still.startswith(PNG)


def test_factor_sliders_need_models_of_the_code():
    images = sprites.images_of("rendered")
    with pytest.raises(ValueError, match="at least one model"):
        FactorExplorer({}, images, sprites.CODES["line"])
    with pytest.raises(ValueError, match="a has 5 latents, the code 6: shape, scale, orientation_cos"):
        FactorExplorer(factor_models("line"), images, sprites.CODES["circle"])
    other = FactorCode(FactorGrid(("a", "b"), (2, 3)))
    with pytest.raises(ValueError, match=r"the code is for \('a', 'b'\), the images have \('colour', 'shape'"):
        FactorExplorer(factor_models("line"), images, other)
