"""A short run of every study, and what its command line says."""

from pathlib import Path

NARROW = ("--h-dims", "16", "--z-dim", "3")
IMAGES = ("--batch-size", "20", "--checkpoint-every", "20")


def train(study: str, digits: Path, folder: Path, *more: object) -> list[str]:
    """The words of the command that trains a study in ``folder``, or goes on there."""
    data = ("--data", digits)
    of_study = {
        "gaussians": ("--steps", 600, "--checkpoint-every", 50),
        "m1": (*data, *NARROW, "--steps", 400, *IMAGES),
        "m2": (*data, *NARROW, "--n-labels", 20, "--labelled-batch-size", 10, "--steps", 150, *IMAGES),
        "gmvae": (*data, *NARROW, "--n-components", 3, "--steps", 150, *IMAGES),
        "judge": (*data, "--filters", 4, 4, "--h-dim", 8, "--steps", 200, *IMAGES),
        "conditional": (*data, "--z-dim", 3, "--steps", 100, "--no-thorough", *IMAGES),
        "supervised": ("--steps", 16, "--batch-size", 4, "--checkpoint-every", 3),
        "warm_start": ("--steps", 12, "--batch-size", 4, "--checkpoint-every", 3),
        "nonsyn": (*data, "--z-dim", 3, "--steps", 40, "--batch-size", 4, "--checkpoint-every", 5),
    }[study]
    return [str(word) for word in ("train", study, *of_study, "--out", folder, "--resume", *more)]


STUDIES = ("gaussians", "m1", "m2", "gmvae", "judge", "conditional", "supervised", "warm_start", "nonsyn")
