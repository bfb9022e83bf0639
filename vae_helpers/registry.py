"""Parts by name, which people add to without editing the package: priors, likelihoods, objectives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any


class Registry:
    """Makers of one kind of part, by name; ``name:key=value,key=value`` sets a maker's own arguments.

    Args:
        kind: what the parts are, for messages: "prior".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.makers: dict[str, Callable[..., Any]] = {}

    def register(self, name: str, maker: Callable[..., Any]) -> None:
        """Add a maker; the same one again (a cell that is run twice) replaces it.

        Raises:
            ValueError: for a name that is taken, or one with other signs than letters, digits, _ and -.
        """
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"name a {self.kind} with letters, digits, _ and -, got {name!r}")
        there = self.makers.get(name, maker)
        if (there.__module__, there.__qualname__) != (maker.__module__, maker.__qualname__):
            raise ValueError(f"a {self.kind} named {name!r} is there already; choose another name")
        self.makers[name] = maker

    def make(self, text: str, *given: Any, also: Sequence[str] = (), kind: str = "") -> Any:
        """The part that ``text`` names: its maker called with ``given`` and the settings behind the colon.

        Args:
            text: ``name`` or ``name:key=value,key=value``; values are whole numbers, numbers, True, False or words.
            given: the arguments that every maker of this kind takes. also: further names that the caller knows.
            kind: what a message calls the part; default as in the registry.

        Raises:
            ValueError: for an unknown name, listing the known ones, or a setting that the maker does not have.
        """
        maker, settings = self.find(text, also=also, kind=kind)
        return maker(*given, **settings)

    def find(self, text: str, *, also: Sequence[str] = (), kind: str = "") -> tuple[Callable[..., Any], dict[str, Any]]:
        """The maker and its settings; see `make`."""
        kind, (name, _, rest) = kind or self.kind, text.partition(":")
        if name not in self.makers:
            known = ", ".join([*also, *(known for known in self.makers if known not in also)])
            raise ValueError(f"unknown {kind} {name!r}; choose one of {known}")
        settings = {}
        for word in filter(None, rest.split(",")):
            key, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"{kind} {text!r}: write its settings as {name}:key=value,key=value")
            settings[key.strip()] = _value(value.strip())
        maker = self.makers[name]
        try:
            inspect.signature(maker).bind_partial(**settings)
        except TypeError as error:
            raise ValueError(f"{kind} {text!r}: {error}") from None
        return maker, settings


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"True": True, "False": False}.get(text.capitalize(), text)
