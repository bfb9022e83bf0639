"""Every study's whole step can be captured as a CUDA graph: it reads no number back and copies no constant."""

import copy

import pytest
import torch
from fake_gpu import OnADevice, fake_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException

from benchmarks.gpu import CHECKED
from vae_helpers.data.factor_codes import _values
from vae_helpers.experiments import STUDIES, job
from vae_helpers.training import Budget

STEPS = {
    **CHECKED,
    "classifier": ("m2", {"model": "classifier"}),
    "m1_m2": ("m2", {"model": "m1_m2"}),
    "all labels": ("m2", {"labels": "all"}),
    "a relaxed label": ("m2", {"labels": "gumbel"}),
    "a capacity that rises": ("nonsyn", {"method": "capacity"}),
    "pseudo-inputs": ("m1", {"prior": "vamp"}),
    "portraits": ("nonsyn", {"data": "portraits"}),
}


class Prepared(Exception):  # no error: the run has come as far as is wanted
    """Model, batches and update of a study's run, before its first step."""


@pytest.fixture
def prepared(monkeypatch):
    """A function: study and settings -> its batches and update, as they are before the first step."""

    def stop(self, model, batches, update, **options):
        raise Prepared(batches, update)

    def prepared(study, settings):
        monkeypatch.setattr(job.Job, "train", stop)
        config = STUDIES[study].config(**settings, steps=4)
        with pytest.raises(Prepared) as found:
            STUDIES[study].run(config, seed=0, budget=Budget.SMOKE, progress=False)
        return found.value.args

    yield prepared
    _values.cache_clear()  # of fake tables


def on_a_fake_gpu(batches, update):
    """Two steps on a fake GPU: what is copied to it in the second one, and the terms."""
    index = batches.draw()
    with fake_gpu():
        batches, update, index = copy.deepcopy((batches, update, index))
        for optimizer in vars(update).values():
            if isinstance(optimizer, torch.optim.Optimizer):
                optimizer.param_groups[0]["capturable"] = True  # as it is where the update was made on a GPU
        update(batches.take(index))  # makes Adam's state, and tables that are kept
        with OnADevice() as watch:
            terms = update(batches.take(index))
    return watch.copies, terms


@pytest.mark.parametrize(("study", "settings"), STEPS.values(), ids=STEPS)
def test_a_whole_step_makes_a_gpu_wait_for_nothing(study, settings, prepared):
    batches, update = prepared(study, settings)
    copies, terms = on_a_fake_gpu(batches, update)
    assert copies == []
    assert {(value.device.type, value.ndim) for value in terms.values()} == {("cuda", 0)}
    assert "loss" in terms


def test_a_step_that_reads_a_number_back_or_copies_one_is_found(prepared, monkeypatch):
    batches, update = prepared("gaussians", {})
    whole = update.objective

    def reads(model, batch):
        assert batch.sum().item() < 100
        return whole(model, batch)

    def copies(model, batch):
        terms = whole(model, batch)
        return {**terms, "loss": terms["loss"] * torch.ones(1).to(batch.device)}

    update.objective = reads
    with pytest.raises(DataDependentOutputException):
        on_a_fake_gpu(batches, update)
    update.objective = copies
    assert on_a_fake_gpu(batches, update)[0]
