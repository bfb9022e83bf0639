"""``import vae_helpers as vh``: what people need by name, on released models and on models of their own."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import vae_helpers as vh
from vae_helpers.data import DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pictures(n=40, shape=(12, 11), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def trained(study, **settings):
    options = {"batch_size": 8, "steps": 2, "budget": "smoke", "progress": False} | settings
    options.setdefault("images", pictures())
    return vh.train(study, **options)


def test_importing_the_package_imports_no_torch():
    code = "import sys, vae_helpers as vh; dir(vh); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_name_is_there_and_another_one_names_them():
    for name in vh.__all__:
        assert getattr(vh, name) is not None
        assert name in dir(vh)
    with pytest.raises(AttributeError, match=r"no attribute 'lode'; it has .*load"):
        vh.lode  # noqa: B018


def test_a_released_model_in_five_lines():
    model = vh.load("m1/z20")
    x = pictures(6, (28, 28))
    z = vh.encode(model, x)
    assert z.shape == (6, 20)
    assert torch.equal(z, model.model.encode(torch.from_numpy(x).flatten(1) / 255)[0])
    drawn = vh.decode(model, z)
    assert drawn.shape == (6, 28, 28)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    rows = vh.traverse(model, x, latents=[3, 0], values=[-1, 0, 1])
    assert rows.shape == (2, 3, 28, 28)
    assert vh.traverse(model, x[0]).shape == (20, 7, 28, 28)


def test_a_traversal_moves_the_latent_that_it_names():
    model = vh.load("m1/z2")
    x = pictures(5, (28, 28))
    moments = vh.encode(model, x)
    row = vh.traverse(model, x[0], latents=[1], values=[-2.0, 1.5])[0]
    codes = moments[:1].repeat(2, 1)
    codes[:, 1] = torch.tensor([-2.0, 1.5])  # around 0 by 1 where one image gives no moments
    torch.testing.assert_close(row, vh.decode(model, codes))


def test_samples_repeat_by_their_seed_and_leave_torchs_generator_alone():
    model = vh.load("m1/z20")
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    first = vh.sample(model, 4, seed=1)
    assert torch.equal(torch.randn(2), expected)
    assert torch.equal(first, vh.sample(model, 4, seed=1))
    assert not torch.equal(first, vh.sample(model, 4, seed=2))
    assert not torch.equal(vh.sample(model, 4), vh.sample(model, 4))


def test_a_conditional_model_takes_labels_and_a_missing_one_is_a_sentence():
    model = vh.load("conditional/both")
    x = pictures(3, (28, 28))
    z = vh.encode(model, x, [1, 2, 3])
    assert z.shape == (3, 20)
    assert vh.decode(model, z, 7).shape == (3, 28, 28)
    assert not torch.equal(vh.decode(model, z, 7), vh.decode(model, z, 1))
    assert vh.sample(model, 12).shape == (12, 28, 28)
    for call in (lambda: vh.encode(model, x), lambda: vh.decode(model, z), lambda: vh.traverse(model, x)):
        with pytest.raises(ValueError, match="give y"):
            call()
    with pytest.raises(ValueError, match="give one label, or 3, got 2"):
        vh.encode(model, x, [1, 2])


def test_a_model_with_a_classifier_finds_the_label_itself():
    model = vh.load("m2/m2_n1000")
    x = pictures(3, (28, 28))
    label = model.model.classify(torch.from_numpy(x).flatten(1) / 255).argmax(-1)
    assert torch.equal(vh.encode(model, x), vh.encode(model, x, label))
    assert torch.equal(vh.traverse(model, x, latents=[0]), vh.traverse(model, x, label, latents=[0]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (pictures(2, (28, 27)), r"\(28, 28\) or flat \(784,\), got \(2, 28, 27\)"),
        (np.full((2, 28, 28), 3.0), r"lie in \[0, 1\], found 3 to 3"),
        (np.full((2, 28, 28), np.nan), "found nan to nan"),
    ],
)
def test_images_that_do_not_fit_the_model_are_a_sentence(x, message):
    with pytest.raises(ValueError, match=message):
        vh.encode(vh.load("m1/z2"), x)


def test_codes_of_another_width_and_models_without_a_prior_are_a_sentence():
    with pytest.raises(ValueError, match=r"2 latents, got \(3, 4\)"):
        vh.decode(vh.load("m1/z2"), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="Autoencoder has no prior"):
        vh.sample(trained("m1", model="autoencoder", z_dim=2, h_dims=(4,)), 3)
    with pytest.raises(ValueError, match="Classifier has no code"):
        vh.encode(vh.load("judge/mnist"), pictures(2, (28, 28)))


def test_images_in_any_layout_and_type_give_the_same_codes():
    model = trained("m1", images=pictures(shape=(9, 8, 3)), z_dim=2, h_dims=(4,))
    x = pictures(4, (9, 8, 3), seed=1)
    first = vh.encode(model, x)
    assert first.shape == (4, 2)
    channels_first = np.moveaxis(x, -1, 1)
    for same in (channels_first, channels_first.reshape(4, -1), torch.from_numpy(channels_first) / 255):
        torch.testing.assert_close(vh.encode(model, same), first)
    assert vh.decode(model, first).shape == (4, 3, 9, 8)
    assert vh.encode(model, x[0]).shape == (1, 2)


@pytest.mark.parametrize(
    ("study", "settings"),
    [
        ("m1", {"z_dim": 2, "h_dims": (4,)}),
        ("m1", {"z_dim": 2, "h_dims": (4,), "prior": "mixture", "n_components": 3}),
        ("m2", {"z_dim": 3, "h_dims": (4,), "n_labels": 6}),
        ("m2", {"model": "adgm", "z_dim": 3, "a_dim": 2, "h_dims": (4,), "n_labels": 6}),
        ("gmvae", {"z_dim": 3, "h_dims": (4,), "n_components": 2}),
        ("conditional", {"z_dim": 3, "thorough": False}),
        ("nonsyn", {"z_dim": 3}),
    ],
)
@pytest.mark.parametrize("shape", [(12, 11), (12, 11, 3)])
def test_models_of_ones_own_pictures_do_everything(study, settings, shape):
    y = np.arange(40) % 3
    model = trained(study, images=pictures(shape=shape), labels=y, **settings)
    kind = shape if len(shape) == 2 else (3, *shape[:2])
    x, given = pictures(4, shape, seed=1), [0, 1, 2, 0]
    label = given if study == "conditional" else None
    z = vh.encode(model, x, label)
    assert z.shape == (4, settings["z_dim"])
    needs = given if study in ("conditional", "m2") else None
    assert vh.decode(model, z, needs).shape == (4, *kind)
    assert vh.sample(model, 5, seed=0).shape == (5, *kind)
    assert vh.traverse(model, x, label).shape == (settings["z_dim"], 7, *kind)
    assert vh.traverse(model, x, label).isfinite().all()


def test_a_run_folder_loads_as_the_run_that_made_it(tmp_path):
    np.save(tmp_path / "mine.npy", pictures())
    options = {"z_dim": 2, "h_dims": (4,), "folder": tmp_path / "run", "images": None}
    run = trained("m1", data=tmp_path / "mine.npy", **options)
    again = vh.load(tmp_path / "run")
    x = pictures(3, seed=1)
    assert torch.equal(vh.encode(again, x), vh.encode(run, x))
    assert again.config == run.config
    assert again.config.shape == (12, 11)
    assert again.metric("test_kl").endswith("(n = 1)")
    with pytest.raises(ValueError, match="no folder of a finished run"):
        vh.experiments.load_run(tmp_path)


def test_training_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"m1 has no setting z; it has .*z_dim"):
        vh.train("m1", z=3)
    with pytest.raises(ValueError, match="unknown study 'm9'"):
        vh.train("m9")
    with pytest.raises(ValueError, match="labels go with an array"):
        vh.train("m2", labels=[1])
    with pytest.raises(ValueError, match="'tiny' is not a valid Budget"):
        vh.train("m1", budget="tiny")
    with pytest.raises(DataError, match="array"):
        trained("m1", images=pictures(shape=(4, 4, 2)))


def test_the_explorer_that_fits_is_opened():
    x, y = pictures(6), [0, 1, 2, 0, 1, 2]
    labels = {"labels": np.arange(40) % 3}
    cases = {
        "pad": trained("m1", z_dim=2, h_dims=(4,)),
        "latents": trained("m1", z_dim=3, h_dims=(4,)),
        "components": trained("m1", z_dim=3, h_dims=(4,), prior="mixture", n_components=3),
        "labels": trained("conditional", z_dim=3, thorough=False, **labels),
    }
    for kind, model in cases.items():
        assert vh.explore(model, x, y).spec["kind"] == kind
    clusters = trained("gmvae", z_dim=3, h_dims=(4,), n_components=2)
    assert vh.explore(clusters, x).spec["kind"] == "latents"
    with pytest.raises(ValueError, match="give y"):
        vh.explore(cases["labels"], x)


def test_a_page_of_a_trained_model_is_a_file_of_its_own(tmp_path):
    run = trained("m1", z_dim=2, h_dims=(4,))
    path = vh.save_page(run, tmp_path / "new" / "page.html", pictures(6), title="<b>mine</b>")
    text = path.read_text()
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "<b>mine" not in text
    assert "http://" not in text
    assert "https://" not in text


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gaussians/vae", {}, "trained on something else"),
        ("judge/mnist", {}, "a Classifier draws no pictures"),
        ("m1/z2_autoencoder", {}, "without its weights"),
        ("m1/z20", {"n_sliders": 0}, "n_sliders must be at least 1, got 0"),
    ],
)
def test_what_has_no_page_is_one_sentence(tmp_path, name, options, words):
    with pytest.raises(ValueError, match=words):
        vh.save_page(vh.load(name), tmp_path / "page.html", **options)
    assert not list(tmp_path.iterdir())
