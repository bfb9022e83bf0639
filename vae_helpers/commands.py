"""Commands about what is there: studies, results, data, this environment. Training and sweeps are in `__main__`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import tyro


def list_studies() -> None:
    """List the studies and the released results."""
    from vae_helpers.experiments.released import read_card, released_names
    from vae_helpers.experiments.tables import load_table, released_tables

    print_studies()
    print("Released results (python -m vae_helpers show NAME):")
    for name in released_names():
        try:
            card = read_card(name)
        except ValueError as error:
            print(f"  {name:<26} {error}")
            continue
        n_seeds = len(card["seeds"])
        seeds = f"{n_seeds} seed{'s' * (n_seeds > 1)}"
        print(f"  {name:<26} budget {card['budget']}, {seeds}, {card['steps']:,} steps")
    for name in released_tables():
        try:
            n = len(load_table(name))
        except ValueError as error:
            print(f"  {name:<26} {error}")
            continue
        print(f"  {name:<26} table of {n} run{'s' * (n > 1)}")


def print_studies() -> None:
    """A line for each study."""
    from vae_helpers.experiments import find_studies

    print("Studies (python -m vae_helpers train STUDY --help shows the settings):")
    for name, study in find_studies().items():
        print(f"  {name:<12} {study.summary}")


def measure(folders: Annotated[tuple[Path, ...], tyro.conf.Positional], data: str = "") -> None:
    """Measure trained runs again from their weights, on any machine. The record names both machines.

    Args:
        folders: one or more run folders.
        data: path of the images, if they are no longer at the place in the records; they must be the same images.
    """
    from vae_helpers.experiments import measure_run

    if not folders:
        raise ValueError("name a run folder: python -m vae_helpers measure FOLDER ...")
    for folder in folders:
        print(f"run folder: {folder}")
        run = measure_run(folder, data=data)
        if not run.metrics:
            print("stopped; the folder is as it was, and the same command measures it")
            raise SystemExit(130)
        print_metrics({key: {"mean": value} for key, value in run.metrics.items()})


def show(name: Annotated[str, tyro.conf.Positional]) -> None:
    """Show a run folder or a released result: settings, metrics and the command that made it.

    Args:
        name: a run folder, or a released name such as m1/z20.
    """
    from vae_helpers.experiments.records import read_record
    from vae_helpers.experiments.released import read_card
    from vae_helpers.experiments.tables import load_table, released_tables

    folder = Path(name)
    if name in released_tables():
        table = load_table(name)
        print(*(line for line in table.attrs.values() if line), table.to_string(index=False), sep="\n")
        return
    if (folder / "run.json").exists():
        card = read_record(folder)
        metrics = {key: {"mean": value} for key, value in card["metrics"].items()}
    else:
        card = read_card(name)
        metrics = card["metrics"]
    for key, value in card.items():
        if key not in ("metrics", "history") and value not in ("", None):
            print(f"{key:<10} {value}")
    print_metrics(metrics)


def page(
    name: Annotated[str, tyro.conf.Positional],
    out: Path,
    data: str = "",
    n_sliders: int | None = None,
) -> None:
    """Write the sliders of a model as one HTML file that works from a disk, with no kernel and no network.

    Args:
        name: a released name such as m1/z20, or a run folder.
        out: the HTML file.
        data: name or path of the images to start from; by default those of the model's study.
        n_sliders: at most this many sliders.
    """
    from vae_helpers import library
    from vae_helpers.data import load_images

    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out is the HTML file to write, such as page.html, got {out}")
    trained = library.load(name)
    config = trained.config
    images = load_images(data, size=config.shape[-2:], channels=1 if len(config.shape) == 2 else None) if data else None
    options = {} if n_sliders is None else {"n_sliders": n_sliders}
    path = library.save_page(trained, out, images, title=str(name), **options)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; open it in any browser")


def print_metrics(metrics: dict[str, dict[str, Any]]) -> None:
    """A table of metrics: mean, and sd with n where there is more than one run."""
    for key, value in metrics.items():
        spread = f" ± {value['sd']:.3f}  (n = {value['n']})" if value.get("sd") is not None else ""
        print(f"  {key:<46} {value['mean']:>10.3f}{spread}")


def release(
    name: Annotated[str, tyro.conf.Positional],
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    note: str = "",
    weights: bool = True,
    curves: bool = False,
    to: Path | None = None,
) -> None:
    """Release a card and weights of finished runs that differ only in their seed, or the table of a sweep.

    Args:
        name: STUDY/NAME of the card or table.
        folders: run folders, or the one CSV file that a sweep wrote.
        note: a remark for readers, on one line.
        weights: for a card, also release the weights of the lowest seed.
        curves: for a table, also release the evaluations during training.
        to: folder for the released files; by default VAE_RELEASED, or the package's own folder in a clone.
    """
    from vae_helpers.experiments import released, tables

    if len(folders) == 1 and folders[0].suffix == ".csv":
        print(tables.release_table(name, folders[0], note=note, curves=curves, to=to))
        return
    print(released.release(name, folders, note=note, weights=weights, to=to))


def data(
    name: Annotated[str, tyro.conf.Positional],
    check: bool = False,
    official: bool = False,
    download: bool = False,
    size: str = "",
    channels: int = 0,
) -> None:
    """Load a data set or your own images, and print their source, sizes and classes.

    Args:
        name: mnist, frey, drawn-faces, dsprites, portraits, celeba, a data set of torchvision (fashion-mnist, kmnist,
            emnist, qmnist, usps, cifar10, svhn, omniglot), or the path of a folder of pictures, an .npy, .npz or idx
            file.
        check: also show mean, sd and classes; for dsprites, compare the drawn images with official ones, if present.
        official: for dsprites, use the official file in place of the drawn images.
        download: for celeba, download the missing files (1.4 GB); other data sets are downloaded without this flag.
        size: size HxW to which pictures are resized and cropped.
        channels: 1 makes pictures grey, 3 gives them colours; 0 keeps them as they are.
    """
    from vae_helpers.data import data_root, load_celeba, load_dsprites, load_images, load_portraits
    from vae_helpers.data.dsprites import compare_dsprites
    from vae_helpers.experiments.settings import parse_size

    print(f"data root: {data_root()}")
    if official and name != "dsprites":
        raise ValueError(f"--official is for dsprites; {name} has one source")
    if download and name != "celeba":
        raise ValueError(f"--download is for celeba; {name} is drawn, fetched without asking, or your own")
    if name in ("dsprites", "portraits"):
        drawn = load_portraits() if name == "portraits" else load_dsprites("official" if official else "rendered")
        factors = ", ".join(f"{n} {size}" for n, size in zip(drawn.grid.names, drawn.grid.sizes, strict=True))
        words = "x".join(map(str, drawn.shape))
        print(f"{drawn.name}: {drawn.source}; {drawn.grid.n_images:,} images {words}; values of {factors}")
        if check and name == "dsprites":
            print(*compare_dsprites(), sep="\n")
        return
    if download:
        load_celeba(download=True)
    images = load_images(name, size=parse_size(size) if size else None, channels=channels or None)
    classes = f"; {images.n_classes} classes: {', '.join(images.classes[:20])}" if images.classes else ""
    print(f"{images.name}: {images.source}; images {'x'.join(map(str, images.shape))}{classes}")
    print(f"sha256 of the content: {images.fingerprint}")
    if check:
        for split, x, y in (("train", images.x_train, images.y_train), ("test", images.x_test, images.y_test)):
            counts = sum(part.flatten().bincount(minlength=256) for part in x.split(10_000)).double() / x.numel()
            grey = torch.arange(256, dtype=torch.float64) / 255
            mean = (counts * grey).sum()
            sd = (counts * (grey - mean) ** 2).sum().sqrt()
            labels = f", per class {y.bincount().tolist()}" if len(y) else ""
            print(f"  {split}: {len(x):,} images, mean {mean:.4f}, sd {sd:.4f}{labels}")


def doctor() -> None:
    """Check this environment: Python, torch, Jupyter and its widgets, data, write access."""
    from vae_helpers.doctor import report

    lines, healthy = report()
    print("\n".join(lines))
    if not healthy:
        raise SystemExit(1)
