"""All studies by name: those of the package, of installed packages and of one's own files."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from vae_helpers.experiments import (
    conditional,
    gaussians,
    gmvae,
    judge,
    m1,
    m2,
    nonsyn_pictures,
    supervised,
    warm_start,
)
from vae_helpers.experiments.settings import Study

_MODULES = (gaussians, m1, m2, gmvae, judge, conditional, supervised, warm_start, nonsyn_pictures)
STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in _MODULES}
GROUP = "vae_helpers.extensions"  # of the entry points
_FILES: dict[Path, Study | None] = {}


def find_studies() -> dict[str, Study]:
    """`STUDIES`, after everything that extends the package was loaded.

    That is each entry point of the group ``vae_helpers.extensions``, and each Python file that VAE_EXTENSIONS names (a
    list like PATH): a `Study`, or code that registers priors, likelihoods and objectives.

    Raises:
        ValueError: for a file that is not there, or a study whose name is taken.
    """
    for file in _extensions():
        _load(Path(file))
    for entry in entry_points(group=GROUP):
        if isinstance(found := entry.load(), Study):
            _register(found, f"the entry point {entry.name}")
    return STUDIES


def study_of(name: str) -> Study:
    """A study by its name, or by the path of its file (ending in .py), which is found by its name from then on.

    Raises:
        ValueError: for an unknown name, listing the known ones, or a file without a study.
    """
    find_studies()
    if name.endswith(".py"):
        study = _load(Path(name))
        if study is None:
            raise ValueError(f"{name} has no STUDY that is a vae_helpers.experiments.Study (see docs/extend.md)")
        if (file := str(Path(name).resolve())) not in _extensions():
            os.environ["VAE_EXTENSIONS"] = os.pathsep.join([*_extensions(), file])  # for the workers of a sweep
        return study
    if name not in STUDIES:
        raise ValueError(f"unknown study {name!r}; choose one of {', '.join(STUDIES)}, or give the path of its file")
    return STUDIES[name]


def _extensions() -> list[str]:
    return [file for file in os.environ.get("VAE_EXTENSIONS", "").split(os.pathsep) if file]


def _load(path: Path) -> Study | None:
    path = path.resolve()
    if path not in _FILES:
        if not path.is_file():
            raise ValueError(f"there is no file {path} to extend the package with; see docs/extend.md")
        spec = importlib.util.spec_from_file_location(f"vae_extension_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        study = getattr(module, "STUDY", None)
        _FILES[path] = _register(study, str(path)) if isinstance(study, Study) else None
    return _FILES[path]


def _register(study: Study, where: str) -> Study:
    if STUDIES.setdefault(study.name, study) is not study:
        raise ValueError(f"{where}: a study named {study.name!r} is there already; give it another name in STUDY")
    return study
