"""Files that are not what their names say, made by a generator with a seed."""

from __future__ import annotations

import functools
import gzip
import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Contents = dict[str, Any]  # name of a case -> bytes, or a function that makes them, where that takes seconds
CANARY = "executed"  # a file of this name is made by whatever is executed


class Commands:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def content_of(cases: Callable[[Path], Contents], name: str, canary: Path) -> bytes:
    """The bytes of one case."""
    found = cases(canary)[name]
    return found() if callable(found) else found


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit changed."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(n: int, rng: random.Random) -> bytes:
    return rng.randbytes(n)


def npy(array: np.ndarray, **keywords: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **keywords)
    return buffer.getvalue()


def npy_head(text: str, content: bytes = b"", version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A .npy file with any header."""
    head = text.encode("latin1") + b"\n"
    size = len(head) if length is None else length
    packed = struct.pack("<H" if version == (1, 0) else "<I", size)
    return b"\x93NUMPY" + bytes(version) + packed + head + content


def npz(members: dict[str, bytes], **keywords: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **keywords) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@functools.cache  # it takes seconds
def bomb(n_bytes: int) -> bytes:
    """An archive of images whose one member unpacks to this many zeros."""
    n = n_bytes // 784
    head = npy_head(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({n}, 28, 28), }}")
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        for _ in range(n * 784 // 2**20):
            member.write(bytes(2**20))
        member.write(bytes(n * 784 % 2**20))
    return buffer.getvalue()


def idx(shape: tuple[int, ...], content: bytes, *, magic: bytes | None = None) -> bytes:
    start = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    return start + b"".join(v.to_bytes(4, "big") for v in shape) + content


def safetensors_file(header: Any, content: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def images(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def npy_cases(canary: Path) -> Contents:
    """.npy files."""
    good, rng = npy(images()), random.Random(1)
    of = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}".format
    found = {f"cut {k}": cut(good, rng) for k in range(8)}
    found |= {f"bit {k} of the head": flip(good[:80], rng) + good[80:] for k in range(10)}
    found |= {f"noise {n}": noise(n, rng) for n in (0, 1, 10, 1000)}
    found |= {
        f"shape {shape}": npy_head(of("'|u1'", shape), bytes(784))
        for shape in ("(-1, 28, 28)", "(10**9, 28, 28)", "(1, 28, 10**18)", "(0, 28, 28)", "(28,)", "()",
                      "(1.5, 28, 28)", "(1, 28, 28, 28)", "(True, 28, 28)", "None", "[1, 28, 28]", f"({'1,' * 3000})")
    }  # fmt: skip
    found |= {
        f"type {kind[:20]}": npy_head(of(kind, "(1, 28, 28)"), bytes(8 * 784))
        for kind in ("'O'", "'|V1'", "'<c16'", "'<U1'", "'nonsense'", "[('a', '|u1')]", "'<i8'", "'<M8[s]'", "7", "''")
    }
    found |= {
        "code in the head": npy_head(f"__import__('pathlib').Path({str(canary)!r}).touch()"),
        "deep head": npy_head("(" * 60_000, version=(2, 0)),
        "long head": npy_head(" " * 2_000_000, version=(2, 0)),
        "declared head of 4 GB": npy_head("{", version=(2, 0), length=2**32 - 1),
        "version 9": npy_head(of("'|u1'", "(1, 28, 28)"), bytes(784), version=(9, 9)),
        "pickled": npy(np.array([Commands(canary)], dtype=object), allow_pickle=True),
        "a pickle": pickle.dumps(Commands(canary)),
        "nan": npy(np.full((30, 8, 8), np.nan, np.float32)),
        "inf": npy(np.full((30, 8, 8), np.inf)),
        "fractions above 1": npy(np.full((30, 8, 8), 7.5, np.float32)),
        "negative fractions": npy(np.full((30, 8, 8), -0.5, np.float32)),
        "two values as bytes": npy(np.ones((30, 8, 8), np.uint8)),
        "one image": npy(np.ones((1, 8, 8), bool)),
        "whole numbers": npy(np.ones((30, 8, 8), np.int64)),
        "an archive": npz({"images.npy": good}),
        "text": b"these are my images",
    }
    return found


def npz_cases(canary: Path) -> Contents:
    """.npz archives."""
    x, y = npy(images()), npy(np.arange(40) % 4)
    good, rng = npz({"images.npy": x, "labels.npy": y}), random.Random(2)
    end = len(good) - 200
    found = {f"cut {k}": cut(good, rng) for k in range(8)}
    found |= {f"bit {k}": flip(good, rng) for k in range(6)}
    found |= {f"bit {k} of the directory": good[:end] + flip(good[end:], rng) for k in range(14)}
    found |= {f"bit {k} of the first head": flip(good[:140], rng) + good[140:] for k in range(8)}
    found |= {f"noise {n}": noise(n, rng) for n in (0, 4, 5000)}
    of = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}".format
    heads = {
        "terabytes": npy_head(of("'|u1'", "(1099511627776, 28, 28)"), bytes(784)),
        "more than 64 bits": npy_head(of("'|u1'", f"({2**70}, 28, 28)"), bytes(784)),
        "negative": npy_head(of("'|u1'", "(-3, 28, 28)"), bytes(784)),
        "pickled": npy(np.array([Commands(canary)] * 3, dtype=object), allow_pickle=True),
        "structured": npy(np.zeros((3, 28, 28), dtype=[("a", "u1")])),
        "code": npy_head(f"open({str(canary)!r}, 'w')"),
        "nan": npy(np.full((40, 8, 8), np.nan, np.float32)),
        "one number": npy(np.uint8(3)),
        "no rows": npy(np.zeros((0, 28, 28), np.uint8)),
        "a short member": npy_head(of("'|u1'", "(40, 28, 28)"), bytes(100)),
        "no head": b"",
        "text": b"hello",
    }
    found |= {f"images: {name}": npz({"images.npy": head}) for name, head in heads.items()}
    found |= {
        f"labels: {name}": npz({"images.npy": x, "labels.npy": label})
        for name, label in {
            "too few": npy(np.arange(7)),
            "fractions": npy(np.linspace(0, 1, 40)),
            "nan": npy(np.full(40, np.nan)),
            "pickled": heads["pickled"],
            "one class each": npy(np.arange(40)),
            "two dimensions": npy(np.zeros((40, 10), np.int64)),
            "negative": npy(np.arange(40) - 20),
            "enormous": npy(np.arange(40) + 2**62),
            "terabytes": npy_head(of("'<i8'", f"({2**40},)"), bytes(8)),
        }.items()
    }
    found |= {
        "climbing names": npz({"../../escaped.npy": x, "/absolute.npy": x}),
        "climbing images": npz({"../images.npy": x}),
        "two members": npz({"a.npy": x, "b.npy": x}),
        "no array": npz({"readme.txt": b"images are elsewhere"}),
        "empty archive": npz({}),
        "half of a split": npz({"x_train.npy": x}),
        "split of two sizes": npz({"x_train.npy": x, "x_test.npy": npy(np.zeros((9, 7, 7), np.uint8))}),
        "bomb of 300 MB": functools.partial(bomb, 300_000_000),
        "bomb of 3 GB": functools.partial(bomb, 3_000_000_000),
        "a name of 60,000 characters": npz({"a" * 60_000 + ".npy": b"x"}),
        "5,000 members": npz({f"{k}.npy": b"" for k in range(5000)}),
        "a gz file": gzip.compress(x),
        "one array": x,
    }
    return found


def idx_cases(canary: Path) -> Contents:
    """idx files."""
    content, rng = images().tobytes(), random.Random(3)
    good = idx((40, 28, 28), content)
    found = {f"cut {k}": cut(good, rng) for k in range(6)}
    found |= {f"bit {k} of the head": flip(good[:16], rng) + good[16:] for k in range(10)}
    found |= {
        "no byte": b"",
        "three bytes": good[:3],
        "one byte more": good + b"\0",
        "noise": noise(2000, rng),
        "text": b"<html>404 not found</html>" * 20,
        "labels": idx((40,), bytes(40)),
        "four dimensions": idx((40, 28, 28, 1), content),
        "terabytes": idx((2**31, 2**15, 28), content[:1000]),
        "65,535 dimensions": idx((), content, magic=b"\0\0\x08\xff"),
        "of fractions": idx((40, 28, 28), content, magic=b"\0\0\x0d\x03"),
        "of unknown type": idx((40, 28, 28), content, magic=b"\0\0\x77\x03"),
        "no images": idx((0, 28, 28), b""),
        "images without pixels": idx((40, 0, 28), b""),
        "gzip inside": gzip.compress(good),
    }
    return found


@functools.cache
def packed_zeros(shape: tuple[int, ...], n_bytes: int) -> bytes:
    """An idx file, packed, with this many zeros after its head."""
    return gzip.compress(idx(shape, bytes(n_bytes)), 1)


def gz_cases(canary: Path) -> Contents:
    """idx files packed by gzip."""
    plain, rng = idx((40, 28, 28), images().tobytes()), random.Random(4)
    good = gzip.compress(plain)
    found = {f"cut {k}": cut(good, rng) for k in range(6)}
    found |= {f"bit {k}": flip(good, rng) for k in range(8)}
    found |= {
        "not packed": plain,
        "no byte": b"",
        "packed twice": gzip.compress(good),
        "another checksum": good[:-8] + bytes(8),
        "a bomb": functools.partial(packed_zeros, (10**6, 28, 28), 784 * 10**5),
        "a bomb that hides its size": functools.partial(packed_zeros, (40, 28, 28), 784 * 10**6),
        "a member after it": good + gzip.compress(b"more"),
        "noise after it": good + noise(50, rng),
        "noise": noise(500, rng),
        "zlib": zlib.compress(plain),
        "one cut, packed": gzip.compress(plain[:-1]),
    }
    return found


def picture_cases(canary: Path) -> dict[str, tuple[str, bytes]]:
    """Pictures: name of the file and content."""
    from PIL import Image

    rng = random.Random(5)

    def saved(kind: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, 60).save(buffer, kind, **options)
        return buffer.getvalue()

    goods = {"png": saved("PNG"), "jpg": saved("JPEG"), "webp": saved("WEBP", lossless=True), "bmp": saved("BMP"),
             "gif": saved("GIF", mode="L"), "tif": saved("TIFF")}  # fmt: skip
    found: dict[str, tuple[str, bytes]] = {}
    for end, good in goods.items():
        found |= {f"{end}, cut {k}": (f"bad.{end}", cut(good, rng)) for k in range(3)}
        found |= {f"{end}, bit {k}": (f"bad.{end}", flip(good, rng)) for k in range(3)}
    postscript = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n({canary}) (w) file closefile\nshowpage\n".encode()
    )
    big = saved("PNG", (12_000, 12_000), "1")
    head = struct.pack(">II5B", 200_000, 200_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    giant = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    found |= {
        "no byte": ("bad.png", b""),
        "noise": ("bad.jpg", noise(2000, rng)),
        "text": ("bad.png", b"a picture of a cat"),
        "PostScript named .jpg": ("bad.jpg", postscript),
        "PostScript named .png": ("bad.png", postscript),
        "SVG named .png": ("bad.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='16'/>"),
        "a pickle named .png": ("bad.png", pickle.dumps(Commands(canary))),
        "a bomb of 144 million pixels": ("bad.png", big),
        "a head of 40,000 million pixels": ("bad.png", giant),
        "another size": ("bad.png", saved("PNG", (20, 31))),
        "one pixel": ("bad.png", saved("PNG", (1, 1))),
        "fractions": ("bad.tif", saved("TIFF", mode="F")),
        "a JPEG named .png": ("bad.png", goods["jpg"]),  # by its content it is a picture
        "a PNG named .jpg": ("bad.jpg", goods["png"]),
    }
    return found


def json_cases(good: dict[str, Any], *, paths: list[tuple[str, ...]]) -> dict[str, bytes]:
    """A JSON file: as text, and with other values in some places."""
    text, rng = json.dumps(good).encode(), random.Random(6)
    found = {f"cut {k}": cut(text, rng) for k in range(5)}
    found |= {
        "no byte": b"",
        "null": b"null",
        "a list": b"[1, 2, 3]",
        "a number": b"7",
        "a word": b'"card"',
        "empty": b"{}",
        "byte order mark": b"\xef\xbb\xbf" + text,
        "UTF-16": json.dumps(good).encode("utf-16"),
        "NUL bytes": bytes(500),
        "noise": noise(500, rng),
        "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "deep lists": b"[" * 200_000,
        "a number of 10,000 digits": b'{"seed": ' + b"9" * 10_000 + b"}",
        "two documents": text + text,
    }
    values: dict[str, Any] = {"null": None, "list": [1], "table": {"a": 1}, "word": "many", "nan": float("nan"),
                              "negative": -1, "large": 10**12}  # fmt: skip
    for path in paths:
        for name, value in values.items():
            changed = json.loads(json.dumps(good))
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            found[f"{'.'.join(path)}: {name}"] = json.dumps(changed).encode()
        changed = json.loads(json.dumps(good))
        place = changed
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        found[f"{'.'.join(path)}: missing"] = json.dumps(changed).encode()
    return found


def weights_cases(good: bytes) -> dict[str, bytes]:
    """Safetensors files."""
    rng = random.Random(7)
    size = struct.unpack("<Q", good[:8])[0]
    header, content = json.loads(good[8 : 8 + size]), good[8 + size :]
    shapes = {name: value["shape"] for name, value in header.items() if name != "__metadata__"}
    first = next((name for name, shape in shapes.items() if shape[::-1] != shape), next(iter(shapes)))

    def changed(**values: Any) -> bytes:
        new = {**header, first: {**header[first], **values}}
        return safetensors_file(new, content)

    n = header[first]["data_offsets"]
    renamed = {("other." + name if name == first else name): value for name, value in header.items()}
    found = {f"cut {k}": cut(good, rng) for k in range(5)}
    found |= {
        "no byte": b"",
        "eight bytes": good[:8],
        "noise": noise(3000, rng),
        "length 2^63": safetensors_file(header, content, length=2**63),
        "length 100 MB": safetensors_file(header, content, length=100_000_000),
        "length 0": safetensors_file(header, content, length=0),
        "length 7 less": safetensors_file(header, content, length=size - 7),
        "deep header": safetensors_file(b"[" * 100_000),
        "header a list": safetensors_file([1, 2]),
        "header not UTF-8": safetensors_file(b'{"\xff": 1}'),
        "type I16": changed(dtype="I16"),
        "type I64": changed(dtype="I64"),
        "type BF16": changed(dtype="BF16"),
        "unknown type": changed(dtype="F99"),
        "shape one more": changed(shape=[header[first]["shape"][0] + 1, *header[first]["shape"][1:]]),
        "shape turned": changed(shape=header[first]["shape"][::-1]),
        "shape negative": changed(shape=[-1]),
        "shape 2^62": changed(shape=[2**62, 2**62]),
        "offsets overlap": changed(data_offsets=[n[0] + 2, n[1] + 2]),
        "offsets backwards": changed(data_offsets=[n[1], n[0]]),
        "offsets beyond": changed(data_offsets=[n[0], 10**12]),
        "one byte more": good + b"\0",
        "a tensor more": safetensors_file(
            {**header, "extra": {"dtype": "F16", "shape": [1], "data_offsets": [len(content), len(content) + 2]}},
            content + bytes(2),
        ),
        "a tensor of another name": safetensors_file(renamed, content),
        "no tensor": safetensors_file({}),
        "a pickle": pickle.dumps({first: 1}),
    }
    return found


def table_cases(good: str) -> dict[str, bytes]:
    """CSV tables."""
    rng = random.Random(8)
    lines = good.splitlines()
    names = lines[next(i for i, line in enumerate(lines) if not line.startswith("#"))].split(",")
    body = "\n".join(lines[-2:])
    return {
        "no byte": b"",
        "comments only": b"# nothing\n# else\n",
        "head only": (",".join(names) + "\n").encode(),
        "NUL bytes": bytes(300),
        "noise": noise(600, rng),
        "ragged": (good + "1,2,3,4,5,6,7" * 40 + "\n").encode(),
        "open quotation": (good + '"' + body).encode(),
        "a word in a number": good.replace(lines[-1], lines[-1].replace(".", "x", 3)).encode(),
        "UTF-16": good.encode("utf-16"),
        "not UTF-8": good.encode() + b"\xff\xfe\xfa",
        "another table": b"a,b\n1,2\n",
        "JSON": b'{"a": [1, 2]}',
        "NUL in a cell": good.replace(lines[-1][:6], "\0" * 6).encode(),
    }


def plan_cases() -> dict[str, bytes]:
    """TOML plans."""
    return {
        "no byte": b"",
        "not TOML": b"[[sweep]\nstudy = ",
        "not UTF-8": b"\xff\xfe[[sweep]]",
        "NUL bytes": bytes(100),
        "another table": b"[plan]\nstudy = 'm1'\n",
        "sweep is a number": b"sweep = 3\n",
        "sweep is a list of numbers": b"sweep = [1, 2]\n",
        "no study": b"[[sweep]]\nseeds = '0'\n",
        "no seeds": b"[[sweep]]\nstudy = 'm1'\n",
        "unknown study": b"[[sweep]]\nstudy = 'm9'\nseeds = '0'\n",
        "study is a number": b"[[sweep]]\nstudy = 9\nseeds = '0'\n",
        "study is a list": b"[[sweep]]\nstudy = ['m1']\nseeds = '0'\n",
        "unknown key": b"[[sweep]]\nstudy = 'm1'\nseed = '0'\n",
        "unknown setting": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { zdim = 3 }\n",
        "setting of another type": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { z_dim = 'many' }\n",
        "setting a table": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { z_dim = { a = 1 } }\n",
        "setting a date": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { z_dim = 2026-01-01 }\n",
        "setting nan": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { z_dim = nan }\n",
        "no values": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\ngrid = { z_dim = [] }\n",
        "seeds of words": b"[[sweep]]\nstudy = 'm1'\nseeds = 'all'\n",
        "seeds a table": b"[[sweep]]\nstudy = 'm1'\nseeds = { a = 1 }\n",
        "30 million seeds": b"[[sweep]]\nstudy = 'm1'\nseeds = '0..30000000'\n",
        "seed 2^64": b"[[sweep]]\nstudy = 'm1'\nseeds = '18446744073709551616'\n",
        "negative seed": b"[[sweep]]\nstudy = 'm1'\nseeds = '-1'\n",
        "unknown budget": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\nbudget = 'huge'\n",
        "budget a number": b"[[sweep]]\nstudy = 'm1'\nseeds = '0'\nbudget = 3\n",
        "deep": b"a = " + b"[" * 50_000,
        "a grid of a million": b"[[sweep]]\nstudy = 'm1'\nseeds = '0..999'\ngrid = { z_dim = ["
        + b",".join(b"%d" % k for k in range(2, 1002))
        + b"] }\n",
    }
