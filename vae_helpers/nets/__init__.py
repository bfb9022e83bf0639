"""Encoder and decoder networks. Data go in and come out flat, (..., D); images are reshaped inside."""

from vae_helpers.nets.conv import ConvDecoder, ConvEncoder, ConvFeatures, CropDecoder, conv_channels, n_halvings
from vae_helpers.nets.heads import FixedVariance
from vae_helpers.nets.init import he_init
from vae_helpers.nets.labels import FiLM, LabelEmbedding, NoLabel, RepeatedOneHot, WithLabel
from vae_helpers.nets.mlp import ACTIVATIONS, MLP, JointMLP

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "ConvDecoder",
    "ConvEncoder",
    "ConvFeatures",
    "CropDecoder",
    "FiLM",
    "FixedVariance",
    "JointMLP",
    "LabelEmbedding",
    "NoLabel",
    "RepeatedOneHot",
    "WithLabel",
    "conv_channels",
    "he_init",
    "n_halvings",
]
