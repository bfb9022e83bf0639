"""Picture files decoded to grey or RGB pixels, by Pillow, from a fixed list of formats."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_helpers.data.files import DataError
from vae_helpers.data.fitting import MAX_PIXELS, fit_picture

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no other is opened: PostScript would start a program
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
TURNED = (5, 6, 7, 8)  # values of the EXIF orientation that exchange height and width


class Form(NamedTuple):
    """What a picture's head says: height and width as it is to be looked at, and whether it is grey."""

    height: int
    width: int
    grey: bool


def common_form(
    paths: Sequence[Path], *, size: tuple[int, int] | None, channels: int | None, what: str
) -> tuple[tuple[int, int], int]:
    """Size and channels that all pictures of a set get.

    Args:
        paths: of the pictures. size, channels: as asked for, or None. what: the data set, for the message.

    Returns:
        (height, width), and 1 or 3: 1 if all pictures are grey and nothing else is asked for.

    Raises:
        DataError: if a file is no picture, or the pictures differ in size and none is asked for.
    """
    with _pool() as each:
        of_file = list(each(form, paths))
    forms = Counter(of_file)
    if size is None:
        sizes: Counter[tuple[int, int]] = Counter()
        for found, count in forms.items():
            sizes[found.height, found.width] += count
        if len(sizes) > 1:
            by_area = sorted(sizes, key=lambda pair: (pair[0] * pair[1], pair))
            (common, count), low, high = sizes.most_common(1)[0], by_area[0], by_area[-1]
            other = next(p for p, found in zip(paths, of_file, strict=True) if (found.height, found.width) != common)
            raise DataError(
                f"the {len(paths):,} pictures of {what} have {len(sizes)} sizes (height x width): the smallest is "
                f"{_x(low)}, the largest {_x(high)}, the commonest {_x(common)} ({count:,} pictures; {other.name} is "
                f"another). Choose one for all with size=(height, width), on the command line --size {_x(common)}"
            )
        size = next(iter(sizes))
    return size, channels or (1 if all(found.grey for found in forms) else 3)


def form(path: Path) -> Form:
    """Size and colour of a picture, from its head.

    Raises:
        DataError: if it cannot be opened, is no picture of a known kind, or is too large.
    """
    with _opened(path) as image:
        height, width = image.height, image.width
        if _turned(image):
            height, width = width, height
        grey = image.mode in GREY_MODES
        if image.mode == "P":
            palette = np.array(image.getpalette() or [0], np.uint8)
            grey = len(palette) % 3 == 0 and bool((palette.reshape(-1, 3) == palette[::3, None]).all())
        return Form(height, width, grey)


def decode(path: Path, *, size: tuple[int, int], channels: int, as_it_is: bool) -> np.ndarray:
    """The pixels of a picture: turned upright by its EXIF orientation, on black where it is transparent.

    Sixteen bits become eight; of several frames the first counts; colour becomes grey by 0.299 R + 0.587 G + 0.114 B.

    Args:
        path: the file. size: (height, width), reached as `fitting.fit_picture` says. channels: 1 or 3.
        as_it_is: True to refuse a picture of another size.

    Returns:
        (H*W,) or (3*H*W,) uint8.

    Raises:
        DataError: if it cannot be decoded.
    """
    with _opened(path) as image:
        image.load()
        upright = _upright(image)
        if as_it_is and (upright.height, upright.width) != tuple(size):
            raise DataError(f"{path} is {upright.height} x {upright.width} pixels, the others {_x(size)}")
        return fit_picture(_plain(upright, path).convert("L" if channels == 1 else "RGB"), size)


def decode_all(paths: Sequence[Path], *, size: tuple[int, int], channels: int, as_it_is: bool) -> np.ndarray:
    """`decode` for several pictures at once, (n, D) uint8."""
    with _pool() as each:
        return np.stack(each(lambda path: decode(path, size=size, channels=channels, as_it_is=as_it_is), paths))


def _turned(image: Any) -> bool:
    """Whether the EXIF orientation exchanges height and width."""
    # Pillow turns a TIFF by itself; of a PNG, what stands behind the pixels would have to be read in full
    if image.format == "TIFF" or (image.format not in ("JPEG", "WEBP") and not image.info.get("exif")):
        return False
    try:
        return image.getexif().get(0x0112) in TURNED
    except Exception:  # damaged EXIF data, of which many kinds of error come: the picture itself is whole
        return False


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in `_turned`
        return image


def _plain(image: Any, path: Path) -> Any:
    """Eight bits a channel, no transparency."""
    from PIL import Image

    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{path} has levels from {levels.min()} to {levels.max()}, not the 0 to 65535 of 16 bits")
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{path} holds fractions, not pixels of 8 or 16 bits. Convert it, or give the set as .npy")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        layer = image.convert("RGBA")
        ground = Image.new("RGB", layer.size)
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture opened by its head; whatever goes wrong with it inside is one sentence."""
    from PIL import Image, UnidentifiedImageError

    way_out = "Repair it or take it out of the folder."
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes). {way_out}")
        # a file, not its name: Pillow maps a named TIFF by the turned size, and mixes up its rows
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path} has {image.width:,} x {image.height:,} pixels, more than the {MAX_PIXELS:,} that are "
                    f"decoded. Make it smaller or take it out of the folder."
                )
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"{path} is no picture of a known kind ({', '.join(FORMATS)}). {way_out}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path} has more than the {MAX_PIXELS:,} pixels that are decoded. {way_out}") from None
    except Exception as error:  # Pillow raises many kinds for damaged files, struct.error and SyntaxError among them
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise DataError(f"{path} cannot be read ({reason}). {way_out}") from None


@contextlib.contextmanager
def _pool() -> Iterator[Any]:
    """A map over several threads (Pillow decodes without Python's lock), its results in order."""
    with warnings.catch_warnings(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        # of large pictures (`MAX_PIXELS` is below Pillow's limit, and an error) and of damaged EXIF data
        warnings.filterwarnings("ignore", module="PIL")

        def each(act: Any, items: Sequence[Any]) -> list[Any]:
            found: list[Any] = []
            for start in range(0, len(items), 4096):  # no more waiting tasks than that
                found += pool.map(act, items[start : start + 4096])
            return found

        yield each


def _x(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
