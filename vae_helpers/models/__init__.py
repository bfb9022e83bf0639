"""Models: networks, a prior and a likelihood put together. They hold no losses."""

from vae_helpers.models.autoencoder import Autoencoder
from vae_helpers.models.conditional import ConditionalVAE, GivenLabel
from vae_helpers.models.gmvae import GMVAE
from vae_helpers.models.semi_supervised import ADGM, M2, Classifier
from vae_helpers.models.vae import VAE

__all__ = ["ADGM", "GMVAE", "M2", "VAE", "Autoencoder", "Classifier", "ConditionalVAE", "GivenLabel"]
