"""What the settings of all studies share: how long and how fast they train, which images, which p(x | z)."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

import numpy as np
from torch import nn

from vae_helpers.data import Data, known_spec, load_images
from vae_helpers.likelihoods import Likelihood, Output, choose_likelihood
from vae_helpers.objectives import choose_objective
from vae_helpers.priors import choose_prior
from vae_helpers.training import Budget


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every study; numpy's numbers, lists and paths become plain values.

    A study is a frozen dataclass that inherits them, adds its own and says STUDY, its name, and STEPS, how many steps
    each budget takes.

    Raises:
        ValueError: for a value of another type, or one that is none of a setting's choices.
    """

    STUDY: ClassVar[str]
    STEPS: ClassVar[Mapping[str, int]]
    DATA: ClassVar[tuple[str, ...]] = ("data",)  # the settings that decide what `load` gives

    lr: float = 1e-3
    """learning rate of Adam"""
    decay: bool = False
    """lower the learning rate linearly to zero over the second half of the steps"""
    batch_size: int = 100
    """number of examples in a step"""
    steps: int = 0
    """optimiser steps; 0 takes the number of the budget"""
    bf16: bool = False
    """compute matrix products and convolutions in bfloat16"""
    compiled: bool = False
    """compile the objective (torch.compile; needs a C++ compiler on a CPU)"""
    deterministic: bool = False
    """use only algorithms that give the same bits every time on a GPU (on a CPU all of them do)"""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():  # type: ignore[arg-type]  # mypy: a class of a dataclass is no Hashable
            object.__setattr__(self, name, _plain(name, hint, getattr(self, name)))

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `training.GradientStep`; the number of steps must be known."""
        return {
            "lr": self.lr,
            "bf16": self.bf16,
            "compiled": self.compiled,
            "decay_steps": self.steps if self.decay else 0,
        }

    def load(self) -> Data:
        """The data that the settings name."""
        raise NotImplementedError

    def resolved(self, budget: Budget, data: Any) -> Self:
        """The same settings with everything said that the budget or the data decide."""
        return dataclasses.replace(self, steps=self.steps or self.steps_of(budget))

    def steps_of(self, budget: Budget) -> int:
        """How many steps the budget takes."""
        return self.STEPS[budget]


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Settings):
    """Settings of the studies that take anybody's images."""

    DATA: ClassVar = ("data", "size", "channels", "test_share", "split_seed")

    data: str = "mnist"
    """images: a name (mnist, frey, drawn-faces, celeba, fashion-mnist, kmnist, emnist, qmnist, usps, cifar10, svhn,
    omniglot) or the path of a folder of pictures, an .npy, .npz or idx file"""
    size: str = ""
    """size HxW to which pictures are resized and cropped; empty keeps their size"""
    channels: int = 0
    """1 makes pictures grey, 3 gives them colours; 0 keeps them as they are"""
    n_classes: int = 0
    """number of classes; 0 takes the number of the data"""
    test_share: float = 0.1
    """share of your own images held out as test set, if they have no test set"""
    split_seed: int = 0
    """seed that chooses the images of this test set"""
    validation: int = 0
    """number of training images that are held out and measured in place of the test set, to choose settings"""

    def load(self) -> Any:
        """The images that the settings name.

        Raises:
            DataError: if they are not there or not usable, or for a size, a number of channels or a share out of range.
        """
        size = parse_size(self.size) if self.size else None
        return load_images(
            self.data,
            size=size,
            channels=self.channels or None,
            test_share=self.test_share,
            split_seed=self.split_seed,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image: (H, W) in grey, (3, H, W) in colour.

        Raises:
            ValueError: for images of one's own that were not loaded yet.
        """
        known = known_spec(self.data)
        if known is None and not (self.size and self.channels):
            raise ValueError(f"the shape of {self.data!r} is known when it is loaded; give --size HxW and --channels")
        there = known[0] if known else ()
        height, width = parse_size(self.size) if self.size else there[-2:]
        channels = self.channels or (3 if len(there) == 3 and there[0] == 3 else 1)
        return (height, width) if channels == 1 else (channels, height, width)

    @property
    def k(self) -> int:
        """Number of classes.

        Raises:
            ValueError: for images without at least two classes of labels.
        """
        known = known_spec(self.data)
        found = self.n_classes or (known[1] if known else 0)
        if found < 2:
            raise ValueError(
                f"{self.STUDY} needs images with labels of two classes or more, and {self.data} has {found}: "
                "put the pictures into a folder for each class, or labels into the .npz file"
            )
        return found

    def resolved(self, budget: Budget, data: Any) -> Self:
        """The settings with steps, size, channels and classes of these images.

        Raises:
            ValueError: if they have another size, number of channels or of classes than the settings say.
        """
        channels, height, width = data.shape if len(data.shape) == 3 else (1, *data.shape)
        found = {"size": f"{height}x{width}", "channels": channels, "n_classes": getattr(data, "n_classes", 0)}
        for name, value in found.items():
            if (wanted := getattr(self, name)) and wanted != value:
                raise ValueError(f"{name} is {wanted} in the settings, but {value} in the images ({data.source})")
        return dataclasses.replace(super().resolved(budget, data), **found)


@dataclass(frozen=True, kw_only=True)
class LikelihoodSettings(ImageSettings):
    """Settings of the studies whose p(x | z) can be chosen, and perhaps prior and objective.

    Raises:
        ValueError: for a name that nothing is registered under, or a variance out of range.
    """

    likelihood: str = "bernoulli"
    """p(x | z): bernoulli, continuous_bernoulli, gaussian, gaussian_learned, gaussian_optimal, gaussian_per_pixel,
    discretised_logistic, or one of your own (docs/extend.md)"""
    x_var: float = 0.05
    """decoder variance of ``gaussian``, or first value of ``gaussian_learned``; in squared pixel units"""
    min_x_var: float = 0.0
    """smallest variance of ``gaussian_per_pixel``; in squared pixel units"""

    NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # setting -> names that the study makes itself, not a registry

    def __post_init__(self) -> None:
        super().__post_init__()
        self.p_x()
        for setting, names in self.NAMES.items():
            if (name := getattr(self, setting)) in names:
                continue
            if setting == "prior":
                choose_prior(name, z_dim=1, also=names)
            else:
                choose_objective(name, also=names, kind=setting)

    def p_x(self, output: Output = "sigmoid") -> Likelihood:
        """The likelihood that the settings name.

        Raises:
            ValueError: for an unknown name, or a variance out of range.
        """
        return choose_likelihood(self.likelihood, x_var=self.x_var, min_x_var=self.min_x_var, output=output)


@dataclass(frozen=True, kw_only=True)
class PixelSettings(LikelihoodSettings):
    """Settings of the studies that take binary images or grey levels."""

    pixels: Literal["dynamic", "grey"] = "dynamic"
    """dynamic binarises the pixels at every step; grey keeps levels from 0 to 1"""

    @property
    def pixels_in_words(self) -> str:
        """For records."""
        return {"dynamic": "dynamic binarisation", "grey": "grey levels"}[self.pixels]


@dataclass(frozen=True)
class Study:
    """One entry of the collection.

    Args:
        config: the frozen dataclass of its settings, a `Settings`; they come before the inherited ones in ``--help``.
        summary: one line for ``list``. build: config -> an untrained model.
        run: (config, images=, **`run.Given`) -> `run.Run`.
        picture: config -> (model -> (H, W) or (H, W, 3), 0 to 1), to watch a model learn; None for none.
    """

    config: type[Settings]
    summary: str
    build: Callable[[Any], nn.Module]
    run: Callable[..., Any]
    picture: Callable[[Any], Callable[[Any], np.ndarray]] | None = None

    def __post_init__(self) -> None:
        own, fields = list(inspect.get_annotations(self.config)), self.config.__dataclass_fields__
        order = sorted(fields, key=lambda name: own.index(name) if name in own else len(own))
        self.config.__dataclass_fields__ = {name: fields[name] for name in order}

    @property
    def name(self) -> str:
        """Of the study."""
        return self.config.STUDY


def parse_size(text: str) -> tuple[int, int]:
    """``"HxW"`` -> (H, W).

    Raises:
        ValueError: for another form.
    """
    height, x, width = text.partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise ValueError(f"size must be HxW, such as 28x28, got {text!r}")
    return int(height), int(width)


@cache
def _hints(config_class: type[Settings]) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def _plain(name: str, hint: Any, value: Any) -> Any:
    """A setting's value as a record keeps it, checked against its type."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist"):  # numpy's and torch's numbers and vectors
        value = value.tolist()
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(get_args(hint))}")
        return value
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        return tuple(_plain(name, get_args(hint)[0], part) for part in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not (get_origin(hint) or hint):
        raise ValueError(f"{name} must be {getattr(hint, '__name__', hint)}, got {value!r}")
    if hint is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of 64 bits, got {value}")
    return value
