"""Make the README's and the notebooks' pictures: ``python scripts/build_images.py``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw

from vae_helpers.data import Batches, FactorBatches, FactorCode, binarise, load_dsprites, load_mnist, load_portraits
from vae_helpers.evaluation import aggregate_posterior
from vae_helpers.experiments import gaussians, load_released, m1, nonsyn, nonsyn_pictures, warm_start
from vae_helpers.experiments.nonsyn import NonSynConfig
from vae_helpers.models import VAE
from vae_helpers.objectives import elbo
from vae_helpers.plotting import (
    CLASS_PALETTE,
    normal_grid,
    plot_grid,
    plot_latents,
    plot_traversals,
    save_gif,
    tile,
    use_style,
)
from vae_helpers.training import Budget, fit

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "_images"


def overview() -> None:
    """Four panels: the learned curve of notebook 01, codes, manifold and traversals of notebook 02."""
    figure = plt.figure(figsize=(13, 7.2))
    grid = figure.add_gridspec(2, 3, width_ratios=(1.15, 1.15, 1.3))
    _curve(figure.add_subplot(grid[0, 0]))
    digits = load_mnist(download=False)
    x = m1.fixed_pixels(digits.x_test[:2000], "dynamic")
    small, large = load_released("m1/z2").model, load_released("m1/z20").model
    plot_latents(
        small.encode(x)[0], digits.y_test[:2000], title="codes of digits, z = 2", ax=figure.add_subplot(grid[1, 0])
    )
    manifold = small.decode_mean(torch.from_numpy(normal_grid(20)))
    title = "the manifold those codes lie on"
    plot_grid(manifold, digits.shape, n_columns=20, pad=0, title=title, ax=figure.add_subplot(grid[:, 1]))
    moments = aggregate_posterior(large, x)
    order, values = moments.kl.argsort(descending=True)[:10].tolist(), torch.linspace(-3, 3, 9)
    codes = moments.traversal(large.encode(x[:1])[0][0], order, values)
    labels = [f"z{j + 1}  KL {moments.kl[j]:.1f}" for j in order]
    pictures, ax = large.decode_mean(codes), figure.add_subplot(grid[:, 2])
    plot_traversals(
        pictures, digits.shape, row_labels=labels, values=values.tolist(), title="one latent at a time, z = 20", ax=ax
    )
    figure.savefig(IMAGES / "overview.png")
    plt.close(figure)


def _curve(ax: plt.Axes) -> None:
    released = load_released("gaussians/vae")
    x = gaussians.sample(released.config, seed=0)
    z = torch.linspace(-3, 3, 300)[:, None]
    ax.scatter(x[:, 0], x[:, 1], s=2, alpha=0.3, linewidths=0, c=[CLASS_PALETTE[i // 2500] for i in range(5000)])
    curve = released.model.decode(z)
    ax.scatter(curve[:, 0], curve[:, 1], c=z[:, 0], cmap="viridis", s=5)
    ax.set(title="two Gaussians through one latent", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def analogies() -> None:
    """The style of ten digits, each written under every label by the released M2."""
    digits = load_mnist(download=False)
    model = load_released("m2/m2_n1000").model
    rows = [int((digits.y_test == label).nonzero()[0]) for label in range(10)]
    x, labels = m1.fixed_pixels(digits.x_test[rows], "dynamic"), torch.eye(10)
    style = model.encode(x, labels[digits.y_test[rows]])[0].repeat_interleave(10, 0)
    written = model.decode_mean(style, labels.repeat(10, 1)).reshape(10, 10, -1)
    pictures = torch.cat([x[:, None], written], dim=1).flatten(0, 1)
    ax = plot_grid(pictures, digits.shape, n_columns=11, column_labels=["x", *map(str, range(10))])
    ax.figure.savefig(IMAGES / "analogies.png")
    plt.close(ax.figure)


def faces() -> None:
    """What the seven latents of the released VAE of portraits do to one face."""
    images, model = load_portraits(), load_released("nonsyn/faces_vae").model
    x = images.pixels(images.grid.sample(1000, generator=torch.Generator().manual_seed(1)))
    kl = aggregate_posterior(model, x).kl
    latents = kl.argsort(descending=True)[:7].tolist()
    labels = [f"z{j + 1}  KL {kl[j]:.1f}" for j in latents]
    moved = nonsyn_pictures.traversals(model, x, latents=latents)[2:].flatten(0, 1)
    ax = plot_traversals(moved, images.shape, row_labels=labels, values=nonsyn_pictures.TRAVERSAL.tolist())
    ax.figure.savefig(IMAGES / "faces.png")
    plt.close(ax.figure)


def samples_along_training() -> None:
    """A GIF: the same forty draws while a VAE with 500 components learns (the one figure that is trained here)."""
    digits = load_mnist(download=False)
    torch.manual_seed(0)
    model, frames = m1.build(m1.M1Config(prior="mixture")), []

    def look(model: VAE) -> dict[str, float]:
        torch.manual_seed(0)  # training goes on from its own random state
        frames.append(tile(model.decode_mean(model.prior.sample(40)), digits.shape, n_columns=8))
        return {}

    batches = Batches(digits.x_train, batch_size=100, seed=0, transform=binarise)
    fit(model, batches, elbo, steps=3000, evaluate=look, eval_every=100, progress=False)
    save_gif(frames, IMAGES / "samples_along_training.gif", fps=6, scale=1)


def warm_start_along_training() -> None:
    """A GIF: traversals of a supervised model of dSprites while the ELBO is maximised (trained here, too)."""
    images = load_dsprites()
    code = FactorCode(images.grid)
    steps = range(0, 301, 10)
    torch.manual_seed(0)
    model, frames = warm_start.build(warm_start.WarmStartConfig()), []
    warm_start.begin_at(model, load_released("supervised/line").model, None)
    codes = code.of(torch.tensor([[0, 2, 3, 8, 16, 16]])).repeat(5, 9, 1)
    for j in range(5):
        codes[j, :, j] = torch.linspace(-0.9, 0.9, 9)

    def look(model: VAE) -> dict[str, float]:
        pictures = tile(model.decode_mean(codes.flatten(0, 1)), images.shape[1:], n_columns=9, between=0.85)
        frames.append(_with_step(pictures, steps[len(frames)], [images.grid.names[f] for f in images.grid.varying]))
        return {}

    batches = FactorBatches(images, batch_size=64, seed=0)
    fit(model, batches, warm_start.elbo, lr=1e-4, steps=steps[-1], evaluate=look, eval_at=steps, progress=False)
    save_gif(frames, IMAGES / "warm_start.gif", fps=5)


def non_synergistic_along_training() -> None:
    """A GIF: traversals of a Non-Synergistic VAE on the small dSprites while it learns (trained here, too)."""
    settings = NonSynConfig(data="dsprites_small", lr=1e-3, decay=True, steps=2000)
    images, models, every = load_dsprites("small"), [], 100
    nonsyn.run(
        settings,
        seed=0,
        budget=Budget.SMOKE,
        progress=False,
        eval_every=every,
        watch=lambda model, _: models.append(copy.deepcopy(model)),  # at the start, and at each evaluation
    )
    x = images.pixels(images.grid.sample(1000, generator=torch.Generator().manual_seed(1)))
    latents = aggregate_posterior(models[-1], x).kl.argsort(descending=True)[:6].tolist()
    frames = []
    for k, model in enumerate(models):
        rows = nonsyn_pictures.traversals(model, x, latents=latents).flatten(0, 1)
        pictures = np.kron(tile(rows, images.shape[1:], n_columns=9, between=0.85), np.ones((2, 2)))
        names = ["image", "reconstruction", *(f"z{j + 1}" for j in latents)]
        frames.append(_with_step(pictures, every * k, names))
    save_gif(frames, IMAGES / "non_synergistic.gif", fps=4)


def _with_step(pictures: np.ndarray, step: int, rows: Sequence[str]) -> Image.Image:
    """A frame with the step above and the name of each row at its left."""
    above, left = 24, 8 + 8 * max(map(len, rows))
    frame = Image.fromarray(np.uint8(255 * np.pad(pictures, ((above, 0), (left, 0)), constant_values=1.0)))
    draw, height = ImageDraw.Draw(frame), pictures.shape[0] / len(rows)
    draw.text((left, 4), f"step {step}", fill=0, font_size=14)
    for i, name in enumerate(rows):
        draw.text((4, above + height * (i + 0.5)), name, fill=0, font_size=13, anchor="lm")
    return frame


if __name__ == "__main__":
    use_style()
    IMAGES.mkdir(exist_ok=True)
    with torch.inference_mode():
        overview()
        analogies()
        faces()
    samples_along_training()
    warm_start_along_training()
    non_synergistic_along_training()
    print("wrote", ", ".join(f"{path.name} ({path.stat().st_size // 1024} KiB)" for path in sorted(IMAGES.iterdir())))
