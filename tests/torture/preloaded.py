"""What the server of `harness` imports once: with it, a fork can begin any command at once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VAE_DEVICE", "cpu")

import distributed  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import PIL.Image  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.metrics
import sklearn.svm  # noqa: F401
import torch
import torch.utils.tensorboard
import torchvision  # noqa: F401

import vae_helpers
import vae_helpers.__main__
import vae_helpers.experiments
import vae_helpers.experiments.measuring
import vae_helpers.experiments.sweep
import vae_helpers.library
import vae_helpers.page  # noqa: F401
from vae_helpers.experiments import find_studies

for study in find_studies().values():  # each study's module
    _ = study.config
torch.set_num_threads(1)
