"""Tables of study ``nonsyn`` on small dSprites (notebook 08): methods, differences, parts of the recipe."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vae_helpers.experiments.nonsyn import NAMES
from vae_helpers.experiments.tables import load_table, means, paired_difference, spread_text

SCORES = {
    "factor_vae": "FactorVAE score:.2f",
    "beta_vae": "BetaVAE score:.2f",
    "mig": "MIG:.2f",
    "dci_disentanglement": "DCI disentanglement:.2f",
    "sap": "SAP:.2f",
    "modularity": "modularity:.2f",
}
REST = {
    "test_log_px": "log p(x | z), nats:.1f",
    "test_kl": "KL, nats:.1f",
    "test_elbo_bound": "ELBO, nats:.1f",
    "active_units": "active latents:.1f",
}
TURNING = {
    "rotation_share": "largest share of rotation in a latent:.2f",
    "active_units": "active latents:.1f",
    "test_log_px": "log p(x | z), nats:.1f",
    "factor_vae": "FactorVAE score:.2f",
    "mig": "MIG:.2f",
}
CHANGES = {
    "factor_vae": "FactorVAE score",
    "mig": "MIG",
    "test_log_px": "log p(x | z), nats",
    "active_units": "active latents",
}
Arms = Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]


def method_table(table: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """One row per method, by its name: mean ± sd over seeds of some metrics, with n.

    Args:
        table: runs of study ``nonsyn``. metrics: column -> heading with its format, such as `SCORES`.
    """
    names = pd.Categorical(table["method"].map(NAMES), list(NAMES.values()))
    return means(table.assign(method=names).sort_values("method"), metrics, by=["method"]).dropna()


def by_seed(table: pd.DataFrame) -> pd.DataFrame:
    """Runs of one method or setting, indexed and sorted by their seed."""
    return table.set_index("seed").sort_index()


def released_arms() -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The parts of the recipe: heading -> (runs, runs that they are compared with), each by seed.

    Arms of two Adam steps are compared with two steps that penalise nothing (ω = 1), arms of one step with the VAE.
    """
    methods, omega, choice = (load_table(f"nonsyn/{name}") for name in ("methods", "omega", "choice"))
    one_step, control = by_seed(methods.query("method == 'vae'")), by_seed(omega.query("omega == 1.0"))
    return {
        "Non-Synergistic VAE (α = 5, ω = 0.9)": (by_seed(methods.query("method == 'nonsyn'")), control),
        "α = 1": (by_seed(load_table("nonsyn/alpha")), control),
        "ω = 0.8": (by_seed(omega.query("omega == 0.8")), control),
        "largest latents kept": (by_seed(choice.query("choice == 'descending'")), control),
        "random latents kept": (by_seed(choice.query("choice == 'random'")), control),
        "in one step": (by_seed(methods.query("method == 'masked'")), one_step),
        "β-VAE, β = 1 + α = 6": (by_seed(load_table("nonsyn/heavy")), one_step),
        "two steps, nothing penalised (ω = 1)": (control, one_step),
    }


def change_table(arms: Arms, metrics: Mapping[str, str] = CHANGES) -> pd.DataFrame:
    """One row per arm: mean ± sd of each metric, and the paired change against its base with a 95 % interval.

    Args:
        arms: heading -> (runs, base), both by seed. metrics: column -> heading.

    Returns:
        texts, with n. A change that is the same for every seed has no interval: its spread is not known to be zero.
    """
    rows = {}
    for name, (arm, base) in arms.items():
        row: dict[str, object] = {}
        for metric, heading in metrics.items():
            row[heading] = spread_text(arm[metric].mean(), arm[metric].std(), ".2f")
            row[f"change of {heading}"] = _change(arm[metric], base[metric])
        rows[name] = {**row, "n": len(arm.index.intersection(base.index))}
    return pd.DataFrame.from_dict(rows, orient="index")


def _change(arm: pd.Series, base: pd.Series) -> str:
    by_pair = (arm - base).dropna()
    if by_pair.nunique() == 1:
        return f"{by_pair.iloc[0]:+.2f} (every seed)"
    return f"{paired_difference(arm, base):+.2f}"
