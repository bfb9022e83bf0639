"""Ways to train one and the same VAE: `training.fit`, the usual loops, and two libraries where they are installed.

Everyone gets the nets of `experiments.m1` (784-300-300-20, ELU), batches of 100, dynamic binarisation,
Adam with step size 1e-3, the closed-form KL and one sample of z.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc"
from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vae_helpers import objectives
from vae_helpers.data import Batches, Images, binarise
from vae_helpers.experiments import m1
from vae_helpers.training import GradientStep, fit

BATCH, LR = 100, 1e-3
PIP_NAMES = {"pythae": "pythae", "pyro": "pyro-ppl"}


@dataclass
class Contender:
    """One way of training.

    Args:
        model: what it trains. train: n -> None, goes on for n steps.
    """

    model: Any
    train: Callable[[int], object]

    def __call__(self, steps: int) -> None:
        """Train for ``steps`` more steps."""
        self.train(steps)


def build(seed: int = 0) -> Any:
    """The untrained VAE; every contender starts from the same weights."""
    torch.manual_seed(seed)
    return m1.build(m1.M1Config())


def ours(images: Images, *, bf16: bool = False, compiled: bool = False) -> Contender:
    """`training.fit` itself, with its logging and checks; the optimiser's state is kept between calls."""
    model = build()
    update = GradientStep(model, objectives.elbo, lr=LR, bf16=bf16, compiled=compiled)
    batches = Batches(images.x_train, batch_size=BATCH, seed=0, transform=binarise)
    return Contender(model, lambda n: fit(model, batches, update=update, steps=n, progress=False))


class _Digits(Dataset[tuple[Tensor, int]]):
    """What torchvision's MNIST with ToTensor hands out, one image at a time, without the detour over PIL."""

    def __init__(self, images: Images) -> None:
        self.x = images.x_train.reshape(-1, *images.shape).numpy()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from torchvision.transforms.functional import to_tensor

        return to_tensor(self.x[i][:, :, None]), 0


def _usual_step(model: Any, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    """The step of the usual example: summed cross-entropy plus KL, over the batch size."""
    x = torch.bernoulli(x)
    optimizer.zero_grad()
    mu, logvar = model.encoder(x).chunk(2, dim=1)
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    bce = F.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    ((bce + kl) / len(x)).backward()
    optimizer.step()


def _loop(step: Callable[[Tensor], object], source: Callable[[], Iterator[Tensor]]) -> Callable[[int], None]:
    """n steps at a time over an endless stream of epochs, each made by ``source``."""

    def forever() -> Iterator[Tensor]:
        while True:
            yield from source()

    stream = forever()

    def train(n: int) -> None:
        for _ in range(n):
            step(next(stream))

    return train


def _tensor_epoch(x: Tensor) -> Iterator[Tensor]:
    return (x[index] for index in torch.randperm(len(x)).split(BATCH) if len(index) == BATCH)


def data_loader(images: Images) -> Contender:
    """The usual loop: Dataset with ToTensor, DataLoader, torch.optim.Adam as it comes."""
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = DataLoader(_Digits(images), batch_size=BATCH, shuffle=True, drop_last=True)

    def epoch() -> Iterator[Tensor]:
        return (x.flatten(1) for x, _ in loader)

    return Contender(model, _loop(lambda x: _usual_step(model, optimizer, x), epoch))


def plain_loop(images: Images) -> Contender:
    """The same step over a float tensor that is already in memory."""
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    x_train = images.x_train.float() / 255
    return Contender(model, _loop(lambda x: _usual_step(model, optimizer, x), lambda: _tensor_epoch(x_train)))


def pythae(images: Images) -> Contender:
    """pythae's own BaseTrainer, epoch by epoch of as many steps as asked for; batches binarised in the forward pass."""
    import logging

    from pythae.data.datasets import BaseDataset, DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    ours = build()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net: nn.Module = ours.encoder

        def forward(self, x: Tensor) -> Any:
            mu, logvar = self.net(x).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net: nn.Module = ours.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))

    class Binarised(VAE):
        def forward(self, inputs: Any, **kwargs: Any) -> Any:
            return super().forward(DatasetOutput(data=torch.bernoulli(inputs["data"])), **kwargs)

    config = VAEConfig(input_dim=(images.x_dim,), latent_dim=ours.z_dim, reconstruction_loss="bce")
    model = Binarised(config, Encoder(), Decoder())
    data = BaseDataset(images.x_train.float() / 255, torch.zeros(len(images.x_train)))
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            optimizer_cls="Adam",
            no_cuda=True,
        )
        trainer = BaseTrainer(model, data, training_config=settings)
        trainer.prepare_training()
    trainer.callback_handler.callbacks.clear()  # no progress bars: they would only slow it down
    batches = _cycle(trainer.train_loader)

    def train(n: int) -> None:
        trainer.train_loader = _Some(batches, n, data)
        trainer.train_step(epoch=1)

    return Contender(ours, train)


@dataclass
class _Some:
    """The next n batches of an endless stream, as pythae's loop wants its loader."""

    stream: Iterator[Any]
    n: int
    dataset: Any

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        return (next(self.stream) for _ in range(self.n))


def _cycle(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def pyro_svi(images: Images, *, jit: bool = False) -> Contender:
    """Pyro's SVI.step on batches from a float tensor in memory; argument checks off, closed-form KL (jit: sampled)."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, JitTrace_ELBO, TraceMeanField_ELBO

    pyro.enable_validation(False)
    vae, tag = build(), "jit" if jit else "eager"  # parameters live in one global store, by name
    x_train = images.x_train.float() / 255

    def model(x: Tensor) -> None:
        pyro.module(f"decoder_{tag}", vae.decoder)
        with pyro.plate("batch", len(x)), pyro.poutine.scale(scale=1 / BATCH):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), vae.z_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=vae.decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module(f"encoder_{tag}", vae.encoder)
        with pyro.plate("batch", len(x)), pyro.poutine.scale(scale=1 / BATCH):
            mu, logvar = vae.encoder(x).chunk(2, dim=1)
            pyro.sample("z", dist.Normal(mu, torch.exp(0.5 * logvar)).to_event(1))

    # JitTraceMeanField_ELBO of Pyro 1.9 traces anew at every step, so the jit variant samples its KL
    elbo = JitTrace_ELBO(ignore_jit_warnings=True) if jit else TraceMeanField_ELBO()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": LR}), loss=elbo)
    return Contender(vae, _loop(lambda x: svi.step(torch.bernoulli(x)), lambda: _tensor_epoch(x_train)))


def installed(package: str) -> bool:
    """Whether this can be imported; no name counts as installed."""
    return not package or importlib.util.find_spec(package) is not None
