"""Data sets, each with an offline default, and batches that live on the device."""

from vae_helpers.data.batches import Batches, Data, Labelled, LabelledBatches, Stream, TwoBatches, TwoStreams
from vae_helpers.data.celeba import load_celeba
from vae_helpers.data.dsprites import load_dsprites
from vae_helpers.data.faces import load_frey, procedural_faces
from vae_helpers.data.factor_codes import FactorCode
from vae_helpers.data.factors import FactorBatches, FactorGrid, FactorImages, WithFactors
from vae_helpers.data.files import DataError, data_root, describe_root
from vae_helpers.data.gaussians import GaussianMixture, LinearGaussian, Points
from vae_helpers.data.labels import LabelSplit, draw_label_split, load_label_split
from vae_helpers.data.mnist import load_mnist
from vae_helpers.data.own import IMAGE_SETS, images_of_arrays, known_spec, load_images
from vae_helpers.data.pixels import PIXELS, binarise, fixed_pixels, to_grey
from vae_helpers.data.portraits import load_portraits
from vae_helpers.data.splits import Images
from vae_helpers.data.views import TwoViews, random_affine, two_views

__all__ = [
    "IMAGE_SETS",
    "PIXELS",
    "Batches",
    "Data",
    "DataError",
    "FactorBatches",
    "FactorCode",
    "FactorGrid",
    "FactorImages",
    "GaussianMixture",
    "Images",
    "LabelSplit",
    "Labelled",
    "LabelledBatches",
    "LinearGaussian",
    "Points",
    "Stream",
    "TwoBatches",
    "TwoStreams",
    "TwoViews",
    "WithFactors",
    "binarise",
    "data_root",
    "describe_root",
    "draw_label_split",
    "fixed_pixels",
    "images_of_arrays",
    "known_spec",
    "load_celeba",
    "load_dsprites",
    "load_frey",
    "load_images",
    "load_label_split",
    "load_mnist",
    "load_portraits",
    "procedural_faces",
    "random_affine",
    "to_grey",
    "two_views",
]
