"""Released results: what is written is what is loaded, and only honest runs become cards."""

import dataclasses
import json
import shlex

import pytest
import safetensors.torch
import torch

from vae_helpers import experiments
from vae_helpers.__main__ import train as train_by_flags
from vae_helpers.experiments import STUDIES, load_released, released, released_names
from vae_helpers.experiments.gaussians import GaussiansConfig
from vae_helpers.experiments.m1 import M1Config
from vae_helpers.models import Classifier, ConditionalVAE
from vae_helpers.training import Budget

NAME = "gaussians/toy"
CONFIG = GaussiansConfig(h_dims=(6, 4), learned=True, steps=5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of two short runs that differ in their seed only."""
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in (3, 1)]
    for folder, seed in zip(folders, (3, 1), strict=True):
        STUDIES["gaussians"].run(CONFIG, seed=seed, budget=Budget.SMOKE, folder=folder, progress=False)
    return folders


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """An empty folder instead of the package's released results."""
    monkeypatch.setattr(released, "FOLDER", tmp_path / "released")
    return tmp_path / "released"


def altered(folder, target, **changes):
    """A copy of a run folder whose record says something else."""
    target.mkdir()
    record = json.loads((folder / "run.json").read_text())
    (target / "run.json").write_text(json.dumps(record | changes))
    (target / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    return target


def test_a_release_loads_as_the_model_of_its_lowest_seed(runs):
    released.release(NAME, runs, note="a toy")
    found = load_released(NAME)
    assert released_names() == [NAME]
    assert found.config == CONFIG
    assert not found.model.training
    trained = safetensors.torch.load_file(runs[1] / "weights.safetensors")
    for key, value in found.model.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, trained[key].float(), rtol=2**-11, atol=2**-24)  # float16 has 11 bits


def test_a_card_may_be_released_without_weights(runs):
    released.release(NAME, runs, weights=False)
    found = load_released(NAME)
    assert found.model is None
    assert found.card["metrics"]["test_elbo_bound"]["n"] == 2
    assert not list(released.FOLDER.rglob("*.safetensors"))


def test_a_card_holds_mean_sd_and_every_value(runs):
    released.release(NAME, runs, note="a toy")
    card = load_released(NAME).card
    values = [json.loads((folder / "run.json").read_text())["metrics"]["test_elbo_bound"] for folder in runs[::-1]]
    metric = card["metrics"]["test_elbo_bound"]
    assert (card["seeds"], card["budget"], card["note"]) == ([1, 3], "smoke", "a toy")
    assert metric["values"] == values
    assert metric["mean"] == pytest.approx(sum(values) / 2)
    assert metric["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert load_released(NAME).metric("test_elbo_bound") == f"{metric['mean']:.2f} ± {metric['sd']:.2f} (n = 2)"
    with pytest.raises(KeyError, match=r"'elbo'.*test_elbo_bound"):
        load_released(NAME).metric("elbo")


def test_a_card_of_one_run_claims_no_spread(runs):
    released.release(NAME, runs[:1])
    found = load_released(NAME)
    assert found.card["metrics"]["test_elbo_bound"]["sd"] is None
    said = found.metric("test_elbo_bound")
    assert f"{found.card['metrics']['test_elbo_bound']['mean']:.2f}" in said
    assert "n = 1" in said
    assert "nan" not in said


def test_damaged_weights_raise_and_are_named(runs, shelf):
    released.release(NAME, runs)
    path = shelf / f"{NAME}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"toy\.safetensors.*sha256"):
        load_released(NAME)


def test_an_unknown_name_raises_and_lists_the_known(runs):
    released.release(NAME, runs)
    with pytest.raises(KeyError, match=rf"'m1/z3'.*{NAME}"):
        load_released("m1/z3")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", dataclasses.asdict(CONFIG) | {"beta": 2.0}),
        ("budget", "full"),
        ("data", "others"),
        ("steps", 6),
        ("study", "m1"),
    ],
)
def test_runs_that_differ_in_more_than_their_seed_are_refused(runs, tmp_path, shelf, key, value):
    other = altered(runs[0], tmp_path / "other", **{key: value})
    with pytest.raises(ValueError, match=f"differ in '{key}'"):
        released.release(NAME, [runs[1], other])
    assert not shelf.exists()


def test_a_run_made_before_a_setting_existed_had_its_default(runs, tmp_path):
    older = {key: value for key, value in dataclasses.asdict(CONFIG).items() if key != "deterministic"}
    released.release(NAME, [runs[1], altered(runs[0], tmp_path / "older", config=older)])
    assert load_released(NAME).card["config"]["deterministic"] is False
    assert load_released(NAME).card["seeds"] == [1, 3]


def test_a_seed_that_occurs_twice_is_refused(runs):
    with pytest.raises(ValueError, match=r"a seed occurs twice: \[3, 3\]"):
        released.release(NAME, [runs[0], runs[0]])


def test_an_interrupted_run_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="interrupted"):
        released.release(NAME, [altered(runs[0], tmp_path / "other", metrics={})])


def test_metrics_that_are_not_finite_are_refused(runs, tmp_path):
    other = altered(runs[0], tmp_path / "other", metrics={"test_elbo_bound": float("nan")})
    with pytest.raises(ValueError, match=r"seed 3.*test_elbo_bound"):
        released.release(NAME, [other])


def test_no_run_at_all_is_refused():
    with pytest.raises(ValueError, match="run"):
        released.release(NAME, [])


@pytest.mark.parametrize(
    ("study", "config"),
    [
        ("gaussians", GaussiansConfig()),
        ("gaussians", GaussiansConfig(data="linear", z_dim=3, h_dims=(), learned=True, x_var=1e-5, steps=7)),
        ("m1", M1Config(data="frey", pixels="grey", likelihood="gaussian_per_pixel", h_dims=(32, 16), bf16=True)),
        ("m1", M1Config(model="autoencoder", activation="relu", beta=0.0, lr=3e-4, batch_size=50)),
    ],
)
def test_the_command_on_a_card_asks_for_the_same_run(monkeypatch, tmp_path, study, config):
    asked = {}

    def run(config, **settings):
        asked.update(settings, config=config)
        raise InterruptedError  # far enough

    monkeypatch.setenv("VAE_BUDGET", "smoke")
    monkeypatch.setenv("VAE_RUNS", str(tmp_path))
    monkeypatch.setitem(experiments.STUDIES, study, dataclasses.replace(STUDIES[study], run=run))
    values = json.loads(json.dumps(dataclasses.asdict(config)))  # as a card keeps them
    words = shlex.split(released.command(study, values, "full").replace("SEED", "4"))
    assert words[:5] == ["python", "-m", "vae_helpers", "train", study]
    with pytest.raises(InterruptedError):
        train_by_flags(study, words[5:])
    assert asked["config"] == config
    assert (asked["seed"], asked["budget"]) == (4, Budget.FULL)


def test_every_card_of_the_package_loads_and_its_model_works(monkeypatch):
    monkeypatch.undo()
    for name in released_names():  # there may be none yet
        model = load_released(name).model
        if isinstance(model, ConditionalVAE):
            found = model.decode_mean(torch.zeros(1, model.z_dim), torch.eye(model.n_classes))
        elif isinstance(model, Classifier):
            found = model.classify(torch.zeros(1, 784))
        elif model is not None:
            found = model.decode_mean(torch.zeros(1, model.z_dim))
        else:
            continue
        assert found.isfinite().all(), name
