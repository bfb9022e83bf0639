"""Records, cards and weights as files: what is read, and what is refused with which words."""

import json
import os
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from torch import nn

from vae_helpers.experiments import folders, load_run, records, released
from vae_helpers.experiments.gaussians import GaussiansConfig
from vae_helpers.experiments.records import fit_weights, read_card_file, read_record, read_weights

RECORD = {
    "study": "gaussians",
    "config": {},
    "seed": 0,
    "budget": "smoke",
    "data": "toy",
    "seconds": 1.0,
    "steps": 5,
    "metrics": {"predictive": 1.0},
    "history": {"rows": [{"step": 5.0, "loss": 1}], "evals": []},
}


@pytest.fixture
def read(tmp_path):
    def as_written(**changes):
        (tmp_path / "run.json").write_text(json.dumps(RECORD | changes))
        return read_record(tmp_path)

    return as_written


def test_a_record_of_a_later_version_may_say_more(read):
    later = {"history": {**RECORD["history"], "events": ["a word"]}, "mood": {"good": [1]}}
    assert read(**later)["mood"] == {"good": [1]}


def test_settings_may_be_nested(read):
    assert records.config_from(Nested, read(config={"sizes": [[1, 2], [3]]})["config"]).sizes == ((1, 2), (3,))


@dataclass(frozen=True)
class Nested:
    sizes: tuple[tuple[int, ...], ...]


def test_nested_settings_are_kept_as_json_has_them():
    assert folders.plain(Nested(((1, 2), (3,)))) == {"sizes": [[1, 2], [3]]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {"predictive": "x"}}, "value of key 'predictive' of value of key 'metrics' of it"),
        ({"history": {"rows": [{"step": True}], "evals": []}}, "step of a row of rows is bool, not a number"),
        ({"history": {"rows": [], "evals": [{"step": None}]}}, "step of a row of evals is NoneType"),
        ({"seed": 10**400}, "is larger than 2\\^63"),
        ({"steps": 2**63}, "is larger than 2\\^63"),
    ],
)
def test_what_is_wrong_is_said(read, changes, words):
    with pytest.raises(ValueError, match=f"is not the record of a run \\(.*{words}.*Train the run again"):
        read(**changes)


def test_files_beyond_all_sense_are_not_read(tmp_path):
    (tmp_path / "run.json").touch()
    os.truncate(tmp_path / "run.json", 3 * 2**30)
    for reader in (read_card_file, lambda path: read_record(path.parent)):
        with pytest.raises(ValueError, match=r"it has 3,221,225,472 bytes, and at most 67,108,864 are read"):
            reader(tmp_path / "run.json")
    with pytest.raises(ValueError, match=r"cannot be read .*Put a good copy there"):
        read_weights(tmp_path / "run.json")


class Counting(nn.Module):
    """A model with a count, a switch and fractions."""

    def __init__(self, order=torch.int64):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("order", torch.arange(2, dtype=order))
        self.register_buffer("on", torch.tensor([True, False]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counts_and_switches_come_back_as_they_were(tmp_path, dtype):
    model, path = Counting(), tmp_path / "weights.safetensors"
    with torch.no_grad():
        model.scale += 0.5
        model.order += 3
    safetensors.torch.save_file(records.converted(model.state_dict(), dtype), path)
    other = Counting()
    fit_weights(other, read_weights(path), path)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert other.state_dict()[name].dtype == value.dtype


def test_another_type_is_another_model(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(Counting(torch.int32).state_dict(), path)
    with pytest.raises(ValueError, match=r"another model \(order: \(2,\) of torch.int32 there, \(2,\) of torch.int64"):
        fit_weights(Counting(), read_weights(path), path)


def test_damaged_weights_of_a_run_may_be_deleted(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="or delete them to train on or anew"):
        folders.load_weights(nn.Linear(1, 1), tmp_path)


def test_weights_that_float16_cannot_hold_are_not_released(tmp_path, monkeypatch):
    from vae_helpers.experiments import gaussians

    monkeypatch.setattr(released, "FOLDER", tmp_path / "released")
    config = GaussiansConfig(steps=2)
    gaussians.run(config, seed=0, budget="smoke", folder=tmp_path / "run", progress=False)
    path = tmp_path / "run" / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name] * 0 + 70_000.0
    safetensors.torch.save_file(weights, path)
    assert load_run(tmp_path / "run").model is not None
    with pytest.raises(ValueError, match=f"beyond 65,504, which float16 cannot hold, in {name}; .*--no-weights"):
        released.release("gaussians/large", [tmp_path / "run"])
    assert not (tmp_path / "released").exists()
    released.release("gaussians/large", [tmp_path / "run"], weights=False)


def test_names_of_run_folders_suit_windows(monkeypatch):
    value = r"laplace:scale=0.1 C:\pics/a?"
    assert folders._in_a_name(value) == r"laplace:scale=0.1 C:\pics-a?"
    monkeypatch.setattr(folders.os, "name", "nt")
    assert folders._in_a_name(value) == "laplace-scale=0.1 C--pics-a-"
