"""Make the tables of RESULTS.md and the README's speeds: ``python scripts/build_tables.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vae_helpers.experiments import load_released, m2, nonsyn, released_names
from vae_helpers.experiments.tables import load_table, means

README = Path(__file__).resolve().parents[1] / "README.md"
RESULTS = README.with_name("RESULTS.md")
BEGIN, END = "<!-- results -->", "<!-- /results -->"
SPEED_BEGIN, SPEED_END = "<!-- speed -->", "<!-- /speed -->"
RATES = README.parent / "benchmarks" / "step_rates.txt"


def results_tables() -> str:
    """The tables of released results, in Markdown."""
    return "\n\n".join(
        table()
        for table in (
            bounds_table,
            priors_table,
            clusters_table,
            accuracy_table,
            conditional_table,
            warm_start_table,
            disentangling_table,
        )
    )


def warm_start_table() -> str:
    """What five latents that were taught the factors of dSprites keep of them."""
    metrics = {
        "test_log_px": "reconstruction term, nats:.1f",
        "factor_vae": "FactorVAE score:.3f",
        "mig": "MIG:.3f",
        "dci_disentanglement": "DCI disentanglement:.3f",
    }
    card = load_released("supervised/line").card["metrics"]
    tables = {
        "taught, 20,000 steps": pd.DataFrame({name: card[name]["values"] for name in metrics}),
        "then the ELBO, 2,000 steps": load_table("warm_start/base"),
        "the ELBO from random weights, 6,000 steps": load_table("warm_start/random"),
    }
    return _markdown("dSprites, five latents", tables, metrics)


def disentangling_table() -> str:
    """The Non-Synergistic VAE and its rivals on the small dSprites."""
    metrics = {
        "factor_vae": "FactorVAE score:.2f",
        "mig": "MIG:.2f",
        "dci_disentanglement": "DCI disentanglement:.2f",
        "test_log_px": "reconstruction term, nats:.1f",
        "active_units": "active latents:.1f",
    }
    runs = load_table("nonsyn/methods")
    tables = {title: runs.query("method == @method") for method, title in nonsyn.NAMES.items()}
    return _markdown("small dSprites, ten latents, 4,000 steps", tables, metrics)


def priors_table() -> str:
    """What better priors are worth at equal steps."""
    tables = {
        "N(0, I)": load_table("m1/by_z").query("z_dim == 20"),
        "500 Gaussians": load_table("m1/by_k").query("n_components == 500"),
        "VampPrior, 500 pseudo-inputs": load_table("m1/vamp"),
        "VampPrior, 500-500 units, z = 40, falling step size": load_table("m1/best"),
    }
    metrics = {"test_elbo_bound": "ELBO", "test_importance_log_px": "log p(x), 100 importance samples"}
    return _markdown("prior, 20,000 steps", tables, metrics)


def clusters_table() -> str:
    """Clusters of digits found without labels."""
    codes = load_table("gmvae/from_codes")
    tables = {
        "random weights": load_table("gmvae/from_random"),
        "codes of a VAE": codes.query("views == 'same'"),
        "codes of a VAE, y read from moved images": codes.query("views == 'moved'"),
    }
    metrics = {"test_accuracy_percent": "accuracy (Hungarian), %:.1f", "test_nmi": "NMI:.3f", "test_ari": "ARI:.3f"}
    return _markdown("ten clusters without labels, start from", tables, metrics)


def _markdown(title: str, tables: dict[str, pd.DataFrame], metrics: dict[str, str]) -> str:
    """One row a table of runs, mean ± sd over seeds."""
    headings = [heading.partition(":")[0] for heading in metrics.values()]
    lines = [f"| {title} | {' | '.join(headings)} |", "|---|" + "---|" * len(headings)]
    for name, table in tables.items():
        row = means(table[list(metrics)].assign(all=name), metrics, by=["all"]).iloc[0]
        lines.append(f"| {name} | " + " | ".join(f"{row[h]} (n = {row['n']})" for h in headings) + " |")
    return "\n".join(lines)


def conditional_table() -> str:
    """What the decoder variance, and the label's place and loudness, do to a conditional VAE."""
    metrics = {
        "sample_accuracy_percent": "samples that obey their label, %:.1f",
        "test_squared_error": "squared error:.1f",
        "test_kl": "KL, nats:.1f",
        "label_probe_percent": "label read from z, %:.1f",
    }
    settings = {"x_var": "x_var", "placement": "label in", "repeats": "copies of the label"}
    tables = {
        f"{title}: {value}": rows
        for name, title in settings.items()
        for value, rows in load_table(f"conditional/{name}").groupby(name, sort=False)
    }
    return _markdown("conditional VAE", tables, metrics)


def accuracy_table() -> str:
    """Test accuracy of the semi-supervised methods by number of labels."""
    sizes = (100, 600, 1000, 3000)
    lines = [
        "| test accuracy, % (mean ± sd over label draws) | " + " | ".join(f"{n:,} labels" for n in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]
    steps = []
    for model, name in m2.NAMES.items():
        cards = [f"m2/{model}_n{n}" for n in sizes]
        cells = [
            load_released(card).metric("test_accuracy_percent") if card in released_names() else "not run"
            for card in cards
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        done = [f"{load_released(card).card['steps']:,}" if card in released_names() else "–" for card in cards]
        steps.append(f"{name} {', '.join(done)}")
    return "\n".join(lines) + f"\n\nOptimiser steps, in the same order: {'; '.join(steps)}."


def bounds_table() -> str:
    """Bounds of the released M1 models."""
    lines = [
        "| released model | ELBO | log p(x), 1,000 importance samples | steps, seconds each, on |",
        "|---|---|---|---|",
    ]
    for name in ("m1/z2", "m1/z20"):
        released = load_released(name)
        card = released.card
        where = f"{card['steps']:,}, {card['seconds']['mean']:.0f} s, {card['hardware']}"
        numbers = f"{released.metric('test_elbo_bound')} | {released.metric('test_importance_log_px')}"
        lines.append(f"| `{name}` | {numbers} | {where} |")
    return "\n".join(lines)


def speed_table() -> str:
    """What `make bench` last printed of training speed, with machine and date, as a block of text."""
    lines = [line for line in RATES.read_text().splitlines() if "not installed" not in line]
    return "\n".join(["```", *lines, "```"])


def write_between(path: Path, begin: str, end: str, made: str) -> None:
    """Put a text between its markers in a file."""
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    write_between(RESULTS, BEGIN, END, results_tables())
    write_between(README, SPEED_BEGIN, SPEED_END, speed_table())
