"""The view that follows a training, and when `fit` calls it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vae_helpers.data import Batches
from vae_helpers.explorer import LiveView
from vae_helpers.training import fit


class Shown:
    """In the place of IPython's display: keeps what was shown first and what replaced it."""

    def __init__(self):
        self.first, self.updates = [], []

    def __call__(self, image, *, display_id):
        assert display_id
        self.first.append(image.data)
        return self

    def update(self, image):
        self.updates.append(image.data)


@pytest.fixture
def shown(monkeypatch):
    found = Shown()
    monkeypatch.setattr("IPython.display.display", found)
    return found


def train(watch, **options):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)

    def objective(model, x):
        return {"loss": ((model(x) - x) ** 2).sum(1)}

    batches = Batches(torch.randn(20, 3), batch_size=4, seed=0)
    options = {"steps": 20, "log_every": 5, "eval_every": 10, **options}
    return model, fit(model, batches, objective, watch=watch, progress=False, **options)


def test_one_display_is_redrawn_at_the_start_and_at_each_evaluation(shown):
    train(
        LiveView(["loss", "weight"], picture=lambda model: np.full((4, 6, 3), 0.5)), evaluate=lambda m: {"weight": 1.0}
    )
    assert len(shown.first) == 1
    assert len(shown.updates) == 2
    assert len({*shown.first, *shown.updates}) == 3  # the pictures differ
    width, height = Image.open(io.BytesIO(shown.updates[-1])).size
    assert width > 2.5 * height  # three panels


def test_a_watch_sees_the_model_in_evaluation_mode_and_leaves_no_trace():
    seen = []

    def watch(model, history):
        torch.rand(3)
        seen.append((model.training, torch.is_grad_enabled(), len(history.rows)))

    model, history = train(watch)
    assert seen == [(False, False, 0), (False, False, 2), (False, False, 4)]
    alone, plain = train(None)
    assert torch.equal(model.weight, alone.weight)
    assert history["loss"].tolist() == plain["loss"].tolist()
    assert history.evals == plain.evals == []


def test_a_name_that_is_not_there_yet_is_waited_for(shown, tmp_path):
    train(LiveView(["loss"]), evaluate=lambda model: {"weight": 1.0}, eval_at=(0,))
    train(LiveView(["weight"]), evaluate=lambda model: {"weight": 1.0}, steps=5, checkpoint=tmp_path / "c.pt")
    train(LiveView(["weight"]), evaluate=lambda model: {"weight": 1.0}, checkpoint=tmp_path / "c.pt", resume=True)


def test_a_watch_that_fails_leaves_the_checkpoint_of_its_step(tmp_path):
    def watch(model, history):
        if history.rows:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        train(watch, checkpoint=tmp_path / "c.pt", checkpoint_every=10)
    _, history = train(None, checkpoint=tmp_path / "c.pt", resume=True)
    assert len(history.rows) == 4


def test_a_name_that_is_not_measured_is_refused_and_the_others_listed(shown):
    with pytest.raises(ValueError, match="'elbo' is not measured; there are loss, weight"):
        train(LiveView(["elbo"]), evaluate=lambda model: {"weight": 1.0})
    with pytest.raises(ValueError, match="needs terms or a picture"):
        LiveView([])
