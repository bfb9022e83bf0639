"""Arrays in one piece of bytes, as a page reads them."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from torch import Tensor

DTYPES = ("float16", "float32", "int32", "uint8")


class Arrays:
    """Named arrays packed one behind the other; ``index`` says where each lies (offsets in bytes)."""

    def __init__(self) -> None:
        self.index: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, values: Tensor | np.ndarray, dtype: str) -> str:
        """Add an array, converted; returns its name.

        Raises:
            ValueError: for a name that is there, a type that a page cannot read, or values that are not finite in it.
        """
        if name in self.index or dtype not in DTYPES:
            raise ValueError(f"cannot add the array {name!r} as {dtype}: a new name and one of {', '.join(DTYPES)}")
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array.astype(np.dtype(dtype).newbyteorder("<")))
        if not np.isfinite(array).all():
            raise ValueError(f"the array {name!r} has values that are not finite as {dtype}")
        self.index[name] = {"dtype": dtype, "shape": list(array.shape), "offset": self._size}
        self._parts.append(array.tobytes())
        self._size += array.nbytes
        return name

    @property
    def data(self) -> bytes:
        """All arrays."""
        return b"".join(self._parts)


def as_text(data: bytes) -> str:
    """Bytes as a page holds them: packed by zlib, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def from_text(text: str) -> bytes:
    """The bytes that `as_text` packed."""
    return zlib.decompress(base64.b64decode(text))
