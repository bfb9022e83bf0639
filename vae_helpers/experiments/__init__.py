"""Studies: settings, ``build`` and ``run(config, seed=...)`` each, for notebooks, tests and clusters alike."""

from vae_helpers.experiments.job import Given, Job, prepare
from vae_helpers.experiments.measuring import measure_run
from vae_helpers.experiments.registry import STUDIES, find_studies, study_of
from vae_helpers.experiments.released import Released, load_any, load_released, load_run, released_names
from vae_helpers.experiments.run import Run
from vae_helpers.experiments.settings import ImageSettings, LikelihoodSettings, PixelSettings, Settings, Study

__all__ = [
    "STUDIES",
    "Given",
    "ImageSettings",
    "Job",
    "LikelihoodSettings",
    "PixelSettings",
    "Released",
    "Run",
    "Settings",
    "Study",
    "find_studies",
    "load_any",
    "load_released",
    "load_run",
    "measure_run",
    "prepare",
    "released_names",
    "study_of",
]
