"""environment.yml says the same as pyproject.toml, in conda's names; constraints.txt allows it."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_TO_PYPI = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def conda_requirements():
    entries = ENVIRONMENT["dependencies"]
    names = [entry for entry in entries if isinstance(entry, str)]
    names += [line for entry in entries if isinstance(entry, dict) for line in entry["pip"] if line != "-e ."]
    found = requirements(names)
    return {CONDA_TO_PYPI.get(name, name): specifier for name, specifier in found.items()}


def pyproject_requirements(groups):
    lines = [*PROJECT["dependencies"], *(line for group in groups for line in PROJECT["optional-dependencies"][group])]
    return requirements(lines)


@pytest.mark.parametrize("name", sorted(pyproject_requirements(["lab", "test"])))
def test_conda_lists_each_dependency_with_the_same_bounds(name):
    assert conda_requirements().get(name) == pyproject_requirements(["lab", "test"])[name]


def test_conda_lists_nothing_else():
    assert set(conda_requirements()) - set(pyproject_requirements(["lab", "test"])) == {"python", "pip"}


def test_conda_uses_one_channel_and_installs_the_package_itself():
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert ENVIRONMENT["dependencies"][-1]["pip"][-1] == "-e ."


@pytest.mark.parametrize("name", sorted(pyproject_requirements(PROJECT["optional-dependencies"])))
def test_constraints_pin_each_dependency_inside_its_bounds(name):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] not in "#-"]
    pins = [Requirement(line) for line in lines if canonicalize_name(Requirement(line).name) == name]
    assert pins, f"{name} is not in constraints.txt"
    bounds = pyproject_requirements(PROJECT["optional-dependencies"])[name]
    for pin in pins:
        version = next(iter(pin.specifier)).version
        assert bounds.contains(version, prereleases=True), f"{name} {version} is outside {bounds}"
