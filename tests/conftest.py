"""Fixtures that several test files share."""

import pytest
import torch

from vae_helpers.data import Images


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Runs stay on the CPU, where a seed gives the same numbers on every machine."""
    monkeypatch.setenv("VAE_DEVICE", "cpu")


@pytest.fixture(scope="module")
def images():
    """60 + 40 fake digits: a bright bar at a place of the label's, and noise of 40 levels on every pixel."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(100) % 10
    x = torch.randint(0, 40, (100, 28, 28), generator=generator)
    for i, label in enumerate(y.tolist()):
        x[i, 2 * label + 2 : 2 * label + 6, 6:22] += 200
    x = x.flatten(1).byte()
    return Images("fake", "fake digits", (28, 28), x[:60], x[60:], y[:60], y[60:])
