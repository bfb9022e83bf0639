"""``--deterministic``: torch's own switch is on while a run is trained, and as it was before and after."""

import pytest
import torch

from vae_helpers.experiments import STUDIES, job
from vae_helpers.training import Budget, fit
from vae_helpers.training.determinism import deterministic_algorithms

pytestmark = pytest.mark.usefixtures("on_the_cpu")
SMALL = {
    "gaussians": {"h_dims": (8,), "steps": 6},
    "m1": {"h_dims": (8,), "z_dim": 2, "steps": 4},
    "m2": {"h_dims": (8,), "z_dim": 2, "steps": 4},
    "gmvae": {"h_dims": (8,), "z_dim": 2, "n_components": 3, "views": "moved", "steps": 4},
    "conditional": {"z_dim": 2, "steps": 3, "thorough": False},
    "judge": {"steps": 2},
    "supervised": {"steps": 2, "batch_size": 4},
    "warm_start": {"steps": 2, "batch_size": 4, "start": "random"},
    "nonsyn": {"steps": 2, "batch_size": 4, "z_dim": 3, "method": "factor_vae"},
}


def state():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


@pytest.mark.parametrize("study", SMALL)
def test_every_study_trains_with_it_to_the_same_weights(study, monkeypatch):
    """On a CPU both ways repeat; what is shown is that no operation of a step lacks a deterministic algorithm."""
    monkeypatch.setenv("VAE_OFFLINE", "1")
    seen = []

    def watched(*arguments, **options):
        seen.append(state())
        return fit(*arguments, **options)

    monkeypatch.setattr(job, "fit", watched)
    found = {}
    for on in (False, True):
        config = STUDIES[study].config(**SMALL[study], deterministic=on)
        model = STUDIES[study].run(config, seed=0, budget=Budget.SMOKE, progress=False).model
        found[on] = torch.cat([value.flatten().double() for value in model.state_dict().values()])
    assert torch.equal(found[False], found[True])
    assert [on for on, _, _ in seen] == [False, True]
    assert state() == (False, False, True)


def fails_inside():
    with deterministic_algorithms():
        assert state() == (True, False, False)
        raise KeyError


def test_what_was_set_before_is_set_again_even_after_an_error(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.raises(KeyError):
            fails_inside()
        assert state() == (True, True, True)
    finally:
        torch.use_deterministic_algorithms(False)


def test_off_it_changes_nothing():
    torch.use_deterministic_algorithms(True)
    try:
        with deterministic_algorithms(False):
            assert state() == (True, False, True)
    finally:
        torch.use_deterministic_algorithms(False)
