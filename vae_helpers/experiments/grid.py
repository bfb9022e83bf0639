"""What a sweep's command line says: settings with their values, and seeds."""

from __future__ import annotations

import dataclasses
import io
import typing
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any


def parse_grid(study: str, words: Sequence[str]) -> dict[str, list[Any]]:
    """``["key=a,b", ...]`` -> typed values; a tuple is written 300x300.

    Raises:
        ValueError: for an unknown study or setting, a word without "=" or a value that the setting cannot take.
    """
    grid: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key in grid:
            raise ValueError(f"--grid {word!r}: write each setting once, as key=a,b,c")
        grid[key] = [typed_value(study, key, value.strip()) for value in text.split(",") if value.strip()]
    return grid


def parse_seeds(text: str) -> list[int]:
    """``0..4`` (both ends) or ``0,2,5`` -> seeds.

    Raises:
        ValueError: for anything else, or an empty range.
    """
    try:
        if ".." in text:
            first, last = (int(end) for end in text.split(".."))
            seeds = list(range(first, last + 1))
        else:
            seeds = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {text!r}: write 0..4 (both ends included) or 0,2,5") from None
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r} names no seeds, or one of them twice")
    return seeds


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
        raise ValueError(f"--grid {key}={text}: {text!r} is no value of {key}, which is {expected}") from None
