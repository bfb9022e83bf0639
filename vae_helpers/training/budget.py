"""How long a run may take, where it runs, and the seed it starts from."""

from __future__ import annotations

import operator
import os
import platform
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import torch

from vae_helpers.data import describe_root

T = TypeVar("T")


class Budget(StrEnum):
    """``smoke`` (seconds: tests), ``quick`` (minutes on two CPU cores), ``full`` (the published protocol)."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"

    @classmethod
    def current(cls) -> Budget:
        """The budget named by ``VAE_BUDGET``; quick if it is not set.

        Raises:
            ValueError: for an unknown name, listing the known ones.
        """
        name = os.environ.get("VAE_BUDGET", cls.QUICK)
        try:
            return cls(name)
        except ValueError:
            raise ValueError(f"VAE_BUDGET={name!r} is no budget; choose one of {', '.join(cls)}") from None

    def pick(self, *, smoke: T, quick: T, full: T) -> T:
        """The value for this budget."""
        return {Budget.SMOKE: smoke, Budget.QUICK: quick, Budget.FULL: full}[self]


@dataclass(frozen=True)
class Setup:
    """What `setup` decided: budget, device and seed."""

    budget: Budget
    device: torch.device
    seed: int


def pick_device() -> torch.device:
    """``VAE_DEVICE`` if set, else CUDA, else MPS, else the CPU.

    Raises:
        ValueError: if ``VAE_DEVICE`` names a device that torch cannot use here.
    """
    named = os.environ.get("VAE_DEVICE")
    if named:
        try:
            torch.zeros(1, device=named)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"VAE_DEVICE={named!r} cannot be used here ({reason}); unset it or name another"
            ) from error
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """The device in words: the GPU's name, or the CPU's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return device.type


def check_seed(seed: Any) -> int:
    """A seed as a plain number; numpy's and torch's whole numbers are taken too.

    Raises:
        ValueError: for anything but a whole number from 0 to 2^63 - 1, which every generator takes.
    """
    number = whole_number(seed)
    if number is None or not 0 <= number < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 - 1, got {str(seed)[:80]}")
    return number


def whole_number(value: Any) -> int | None:
    """A whole number, Python's, numpy's or torch's, as a plain one; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def setup(seed: int, *, verbose: bool = True) -> Setup:
    """Seed torch, choose device and budget, and print both with the versions and the data root.

    Args:
        seed: of everything drawn from torch's global generators.
        verbose: print the line.

    Returns:
        a `Setup`.

    Raises:
        ValueError: for an unknown ``VAE_BUDGET``, an unusable ``VAE_DEVICE``, or no seed.
    """
    budget, device = Budget.current(), pick_device()
    torch.manual_seed(check_seed(seed))
    torch.set_flush_denormal(True)  # weights of pixels that are almost never lit decay to denormals, which are slow
    if verbose:
        print(
            f"budget {budget} · seed {seed} · {describe_device(device)} · Python {platform.python_version()}, "
            f"torch {torch.__version__}, numpy {np.__version__} · data root: {describe_root()}"
        )
    return Setup(budget, device, seed)
