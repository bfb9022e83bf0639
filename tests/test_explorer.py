"""Slider panels without a browser: callbacks fire when a value is set from Python."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

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

PNG = b"\x89PNG"


@pytest.fixture
def x():
    return torch.rand(12, 784, generator=torch.Generator().manual_seed(0))


def build(z_dim, model="vae"):
    torch.manual_seed(0)
    return m1.build(M1Config(z_dim=z_dim, h_dims=(16,), model=model)).eval()


@pytest.mark.parametrize("kind", ["vae", "autoencoder"])
def test_moving_a_slider_changes_the_picture_and_only_that_latent(x, kind):
    explorer = LatentExplorer(build(5, kind), x, shape=(28, 28), n_sliders=3)
    picture, code = explorer.image.value, explorer.z.clone()
    explorer.sliders[1].value += 1
    assert explorer.image.value != picture
    assert bytes(explorer.image.value).startswith(PNG)
    assert (explorer.z != code).nonzero().flatten().tolist() == [explorer.order[1]]


def test_sliders_are_sorted_by_kl(x):
    model = build(5)
    explorer = LatentExplorer(model, x, shape=(28, 28))
    q_mu, q_logvar = model.encode(x)
    kl = 0.5 * (q_mu**2 + q_logvar.exp() - 1 - q_logvar).mean(0)
    assert explorer.order == kl.argsort(descending=True).tolist()


def test_starting_from_an_example_shows_its_code_and_reset_brings_it_back(x):
    model = build(5)
    explorer = LatentExplorer(model, x, shape=(28, 28), n_sliders=2)
    explorer.example.value = 7
    torch.testing.assert_close(explorer.z, model.encode(x)[0][7])
    picture = explorer.image.value
    explorer.random.click()
    assert explorer.image.value != picture
    explorer.reset.click()
    assert explorer.image.value == picture
    torch.testing.assert_close(explorer.z, model.encode(x)[0][7])


def test_moving_all_sliders_from_python_moves_the_code(x):
    explorer = LatentExplorer(build(5), x, shape=(28, 28), n_sliders=3)
    hidden = explorer.z.clone()
    explorer.move_to([1.0, -1.0, 0.5])
    assert [slider.value for slider in explorer.sliders] == [1.0, -1.0, 0.5]
    assert explorer._units(explorer.z) == pytest.approx([1.0, -1.0, 0.5], abs=1e-5)
    unseen = [j for j in range(5) if j not in explorer.order]
    assert explorer.z[unseen].tolist() == hidden[unseen].tolist()


def test_the_pad_decodes_where_it_points(x):
    pad = LatentPad(build(2), x, shape=(28, 28))
    picture = pad.image.value
    pad.pad.point = [1.0, -0.5]
    assert pad.image.value != picture
    assert "+1.00, -0.50" in pad.readout.value


def test_a_pad_needs_two_latents(x):
    with pytest.raises(ValueError, match="this one has 3"):
        LatentPad(build(3), x, shape=(28, 28))


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


@pytest.mark.parametrize(
    "make", [lambda x: LatentExplorer(build(4), x, shape=(28, 28)), lambda x: LatentPad(build(2), x, shape=(28, 28))]
)
def test_a_page_without_a_kernel_shows_a_still_picture(x, make):
    bundle = make(x)._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert base64.b64decode(data["image/png"]).startswith(PNG)
    assert "run this cell" in data["text/plain"]


@pytest.fixture
def labelled():
    """An M2, twelve examples and their labels."""
    torch.manual_seed(0)
    model = m2.build(M2Config(z_dim=5, h_dims=(16,))).eval()
    return model, torch.rand(12, 784), torch.arange(12) % 10


def test_a_label_button_changes_the_picture_and_keeps_the_style(labelled):
    explorer = LabelExplorer(*labelled, shape=(28, 28), n_sliders=3)
    picture, code = explorer.image.value, explorer.z.clone()
    explorer.label.value = 7
    assert explorer.image.value != picture
    torch.testing.assert_close(explorer.z, code)
    explorer.label.value = 0
    assert explorer.image.value == picture


def test_the_edited_picture_is_the_code_under_the_chosen_label(labelled):
    model, x, y = labelled
    explorer = LabelExplorer(model, x, y, shape=(28, 28))
    explorer.label.value = 3
    explorer.sliders[0].value += 1
    expected = model.decode_mean(explorer.z[None], torch.eye(10)[3:4])
    torch.testing.assert_close(explorer._decoded(explorer.z[None]), expected)
    torch.testing.assert_close(explorer.analogies(explorer.z[None])[3:4], expected)


def test_another_example_brings_its_own_label_and_reset_keeps_to_it(labelled):
    model, x, y = labelled
    explorer = LabelExplorer(model, x, y, shape=(28, 28))
    explorer.example.value = 4
    assert explorer.label.value == 4
    torch.testing.assert_close(explorer.z, model.encode(x, torch.eye(10)[y])[0][4])
    picture = explorer.image.value
    explorer.label.value = 9
    explorer.reset.click()
    assert explorer.label.value == 4
    assert explorer.image.value == picture


def test_the_label_explorer_draws_once_a_change(labelled, monkeypatch):
    explorer = LabelExplorer(*labelled, shape=(28, 28))
    drawn = []
    monkeypatch.setattr(explorer, "_render", lambda values: drawn.append(1) or explorer._picture(values))
    explorer.label.value = 5
    assert len(drawn) == 1
    explorer.example.value = 2
    assert len(drawn) == 2


def test_labels_that_do_not_fit_the_examples_are_refused(labelled):
    model, x, y = labelled
    with pytest.raises(ValueError, match="agree in length"):
        LabelExplorer(model, x, y[:5], shape=(28, 28))


@pytest.fixture
def placements():
    """Two conditional VAEs that differ in where the label enters, twelve examples and their labels."""
    torch.manual_seed(0)
    models = {
        placement: conditional.build(ConditionalConfig(placement=placement, z_dim=5)).eval()
        for placement in ("both", "encoder")
    }
    return models, torch.rand(12, 784), torch.arange(12) % 10


def halves(explorer):
    """The pixels of the two models' pictures."""
    pixels = np.asarray(Image.open(io.BytesIO(explorer.image.value)))
    middle = pixels.shape[1] // 2
    return pixels[:, :middle], pixels[:, middle:]


def test_one_button_and_one_slider_move_every_model_of_a_comparison(placements):
    explorer = ComparisonExplorer(*placements, shape=(28, 28), n_sliders=3)
    before = halves(explorer)
    explorer.sliders[0].value = 2.0
    moved = halves(explorer)
    assert (moved[0] != before[0]).any()
    assert (moved[1] != before[1]).any()
    explorer.reset.click()
    assert (halves(explorer)[0] == before[0]).all()
    assert (halves(explorer)[1] == before[1]).all()


def test_a_label_changes_only_the_models_whose_decoder_is_told(placements):
    models, x, y = placements
    explorer = ComparisonExplorer(models, x, y, shape=(28, 28), n_sliders=3)
    panels = explorer.panels
    one, other = (
        {name: panel.picture_of(2, label, [0.5, 0.0, 0.0]) for name, panel in panels.items()} for label in (1, 7)
    )
    above_the_mark = slice(0, -3)  # the line under the chosen label moves in both
    assert (one["both"][above_the_mark] != other["both"][above_the_mark]).any()
    assert (one["encoder"][above_the_mark] == other["encoder"][above_the_mark]).all()
    picture = explorer.image.value
    explorer.label.value = 7
    assert explorer.image.value != picture


def test_a_comparison_starts_from_the_code_and_label_of_the_chosen_example(placements):
    models, x, y = placements
    explorer = ComparisonExplorer(models, x, y, shape=(28, 28), n_sliders=3)
    explorer.sliders[1].value = 1.5
    explorer.example.value = 4
    assert explorer.label.value == 4
    assert [slider.value for slider in explorer.sliders] == [0.0, 0.0, 0.0]
    for name, panel in explorer.panels.items():
        torch.testing.assert_close(panel.z, models[name].encode(x, torch.eye(10)[y])[0][4])


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
def test_choosing_a_component_shows_its_mean_and_the_button_draws_from_it(x, prior):
    model = mixture_model(prior)
    explorer = ComponentExplorer(model, x, shape=(28, 28), n_sliders=3)
    share = model.prior.component_probs(model.encode(x)[0]).mean(0)
    assert explorer.by_share == share.argsort(descending=True).tolist()
    picture = explorer.image.value
    explorer.component.value = 2
    p_mu, p_logvar = model.prior.components()
    torch.testing.assert_close(explorer.z, p_mu[explorer.by_share[2]])
    assert explorer.image.value != picture
    assert f"number {explorer.by_share[2]}, " in explorer.about.value
    assert explorer.sliders[0].value == pytest.approx(min(3, max(-3, explorer._units(explorer.z)[0])), abs=0.05)
    explorer.draw_one.click()
    away = (explorer.z - p_mu[explorer.by_share[2]]) / torch.exp(0.5 * p_logvar[explorer.by_share[2]])
    assert 0 < away.abs().max() < 6  # a standard normal draw
    explorer.reset.click()
    torch.testing.assert_close(explorer.z, model.encode(x)[0][0])


def test_components_need_a_mixture(x):
    with pytest.raises(ValueError, match="prior is StandardNormal, no mixture"):
        ComponentExplorer(build(4), x, shape=(28, 28))


# ---- known factors


def factor_models(code, names=("a", "b")):
    torch.manual_seed(0)
    return {name: supervised.build(SupervisedConfig(code=code)).eval() for name in names}


@pytest.mark.parametrize("code", ["line", "circle"])
def test_factor_sliders_show_the_true_picture_beside_the_decoders(code):
    models, images = factor_models(code), sprites.images_of("rendered")
    explorer = FactorExplorer(models, images, sprites.CODES[code])
    assert [slider.description for slider in explorer.sliders] == ["shape", "scale", "orientation", "x", "y"]
    values = [0.9, -0.9, 0.3, 0.5, -0.02]
    explorer.move_to(values)
    nearest = explorer.nearest([slider.value for slider in explorer.sliders])
    assert nearest.tolist() == [[0, 2, 0, 26, 24, 15]]
    with torch.inference_mode():
        pictures = explorer._picture(values)
    z = sprites.CODES[code].at(torch.tensor([values]))
    with torch.inference_mode():
        true = images.pixels(nearest)
        expected = [true, *(model.decode_mean(z) for model in models.values())]
        again = [model.decode_mean(model.encode(true)[0]) for model in models.values()]
    for row, column, x in [*((0, c, x) for c, x in enumerate(expected)), *((1, c + 1, x) for c, x in enumerate(again))]:
        found = pictures[67 * row : 67 * row + 64, 67 * column : 67 * column + 64]
        torch.testing.assert_close(torch.as_tensor(found), 1 - x.view(64, 64), rtol=0, atol=1e-5)
    before = explorer.image.value
    explorer.sliders[3].value = -0.9
    assert explorer.image.value != before
    explorer.reset.click()
    assert explorer.nearest([slider.value for slider in explorer.sliders]).tolist() == [[0, 1, 3, 20, 16, 16]]


def test_factor_sliders_need_models_of_the_code():
    images = sprites.images_of("rendered")
    with pytest.raises(ValueError, match="at least one model"):
        FactorExplorer({}, images, sprites.CODES["line"])
    with pytest.raises(ValueError, match="a has 5 latents, the code 6: shape, scale, orientation_cos"):
        FactorExplorer(factor_models("line"), images, sprites.CODES["circle"])
    other = FactorCode(FactorGrid(("a", "b"), (2, 3)))
    with pytest.raises(ValueError, match=r"the code is for \('a', 'b'\), the images have \('colour', 'shape'"):
        FactorExplorer(factor_models("line"), images, other)
