"""Objectives of one's own by name, for the studies that train any objective of a VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from vae_helpers.objectives.bounds import Terms
from vae_helpers.registry import Registry

_OBJECTIVES = Registry("objective")


def register_objective(name: str, objective: Callable[..., Terms]) -> None:
    """Let ``train m1 --bound NAME`` and ``train nonsyn --method NAME`` train an objective of one's own.

    Args:
        name: of letters, digits, _ and -. objective: (model, x, **settings) -> terms, (B,) each, with a ``loss``.

    Raises:
        ValueError: for a name that is taken, or another form of name.
    """
    _OBJECTIVES.register(name, objective)


def choose_objective(text: str, *, also: Sequence[str] = (), kind: str = "objective") -> Callable[[Any, Any], Terms]:
    """The registered objective that a configuration names, its settings filled in.

    Args:
        text: ``name`` or ``name:key=value,key=value``. also: names that the caller knows itself, and kind: what it
            calls them, for the message.

    Raises:
        ValueError: for an unknown name, listing the known ones, or settings that it does not have.
    """
    objective, settings = _OBJECTIVES.find(text, also=also, kind=kind)
    return partial(objective, **settings)
