"""What a sweep's command line says: settings with their values, and seeds."""

from __future__ import annotations

import dataclasses
import io
import math
import typing
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from vae_helpers.training.budget import check_seed

MOST_RUNS = 10_000  # of a sweep: more is a slip of the hand


def parse_grid(study: str, words: Sequence[str]) -> dict[str, list[Any]]:
    """``["key=a,b", ...]`` -> typed values; a tuple is written 300x300.

    Raises:
        ValueError: for an unknown study or setting, a word without "=" or a value that the setting cannot take.
    """
    words_of: dict[str, list[str]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key in words_of:
            raise ValueError(f"--grid {word!r}: write each setting once, as key=a,b,c")
        words_of[key] = [value.strip() for value in text.split(",") if value.strip()]
    check_number([len(values) for values in words_of.values()])
    return {key: [typed_value(study, key, value) for value in values] for key, values in words_of.items()}


def check_number(n_values: Sequence[int], n_seeds: int = 1) -> None:
    """Raise ValueError if so many values of each setting make more runs than a sweep may have."""
    if (n := math.prod(n_values) * n_seeds) > MOST_RUNS:
        raise ValueError(
            f"the grid makes {n:,} runs, and a sweep has at most {MOST_RUNS:,}; give fewer values or seeds"
        )


def parse_seeds(text: str) -> list[int]:
    """``0..4`` (both ends) or ``0,2,5`` -> seeds.

    Raises:
        ValueError: for anything else, or an empty range.
    """
    try:
        first, dots, last = text.partition("..")
        seeds: Sequence[int] = range(int(first), int(last) + 1) if dots else [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {text[:80]!r}: write 0..4 (both ends included) or 0,2,5") from None
    many = seeds.stop - seeds.start if isinstance(seeds, range) else len(seeds)  # len has a limit
    if many > MOST_RUNS:
        raise ValueError(f"--seeds {text[:80]!r}: a sweep has at most {MOST_RUNS:,} runs; give fewer seeds")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r} names no seeds, or one of them twice; write 0..4 or 0,2,5")
    try:
        return [check_seed(seed) for seed in seeds]
    except ValueError as error:
        raise ValueError(f"--seeds {text[:80]!r}: {error}") from None


def study_defaults(study: str, keys: Iterable[str]) -> Any:
    """The default settings of a study.

    Raises:
        ValueError: for an unknown study or one without a setting of these keys.
    """
    from vae_helpers.experiments import study_of

    defaults = study_of(study).config()
    known = [field.name for field in dataclasses.fields(defaults)]
    for key in keys:
        if key not in known:
            raise ValueError(f"{study} has no setting {key!r}; it has {', '.join(known)}")
    return defaults


def typed_value(study: str, key: str, text: str) -> Any:
    """One value of a setting from its text, a tuple as 300x300.

    Raises:
        ValueError: for an unknown study or setting, or a text that is no value of it.
    """
    import tyro

    defaults = study_defaults(study, [key])
    kind = type(getattr(defaults, key))
    hint = typing.get_type_hints(type(defaults))[key]
    if hint is str:  # any text; names are checked by the settings themselves
        return getattr(dataclasses.replace(defaults, **{key: text}), key)
    words = {bool: [text.capitalize()], tuple: [] if text == "()" else text.split("x")}.get(kind, [text])
    arguments, options = [f"--{key.replace('_', '-')}", *words], (tyro.conf.FlagConversionOff,)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            return getattr(tyro.cli(type(defaults), args=arguments, config=options), key)
    except SystemExit:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")
        raise ValueError(f"--grid {key}={text}: {text!r} is no value of {key}, which must be {expected}") from None
