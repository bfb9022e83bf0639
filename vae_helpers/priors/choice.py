"""Priors by name, for configurations; people register their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vae_helpers.priors.base import Prior
from vae_helpers.priors.gaussian import StandardNormal
from vae_helpers.registry import Registry

_PRIORS = Registry("prior")
_PRIORS.register("standard", StandardNormal)


def register_prior(name: str, maker: Callable[..., Prior]) -> None:
    """Let ``--prior NAME`` and ``--prior NAME:key=value`` make a prior of one's own.

    Args:
        name: of letters, digits, _ and -. maker: (z_dim, **settings) -> a `Prior`; its class, say.

    Raises:
        ValueError: for a name that is taken, or another form of name.
    """
    _PRIORS.register(name, maker)


def choose_prior(text: str, *, z_dim: int, also: Sequence[str] = ()) -> Any:
    """The prior that a configuration names.

    Args:
        text: standard, or a registered name with its settings, ``name:key=value``. z_dim: latents Z. also: names that
            the caller makes itself, for the message.

    Raises:
        ValueError: for an unknown name, listing the known ones, or settings that it does not have.
    """
    return _PRIORS.make(text, z_dim, also=also)
