"""Models, bounds and pictures behind the variational-autoencoder notebooks."""

__version__ = "0.1.0"
