"""Odd values of every flag and environment variable, and the habits of terminals: it works, or says one sentence."""

import dataclasses
import os
import subprocess
import sys

import pytest
from cases import STUDIES, train
from harness import ENVIRONMENT, HERE, How, copy, refused, run, succeeds

from vae_helpers.experiments import study_of

VALUES = {"-1": "-1", "0": "0", "nan": "nan", "inf": "inf", "1e30": "1e30", "empty": "", "long": "x" * 10_000,
          "2^64": str(2**64), "letters": "é名\u202e\U0001f600", "climbing": "../../../etc"}  # fmt: skip
OF_TRAIN = ("seed", "budget", "out", "checkpoint-every", "eval-every", "tensorboard", "resume")
OTHERS = {
    "data": (("data", "drawn-faces"), ("size", "channels", "check", "official", "download")),
    "page": (("page", "run", "--out", "p.html"), ("out", "data", "n-sliders")),
    "release": (("release", "study/name", "run", "--to", "to"), ("note", "to", "weights", "curves")),
    "measure": (("measure", "run"), ("data",)),
    "sweep": (
        ("sweep", "gaussians", "--seeds", "0", "--workers", "1", "--grid", "steps=5"),
        ("seeds", "workers", "minutes", "budget", "scheduler", "plan", "grid", "pack", "out"),
    ),
}
VARIABLES = ("VAE_BUDGET", "VAE_DEVICE", "VAE_DATA", "VAE_RUNS", "VAE_RELEASED", "VAE_OFFLINE", "OMP_NUM_THREADS",
             "HOME", "COLUMNS", "LANG", "TERM", "PYTHONHASHSEED")  # fmt: skip


def flags_of_studies():
    """Each setting of each study; those that M1 has too are tried there only, and the flags of `train` itself once."""
    names = {study: [field.name for field in dataclasses.fields(study_of(study).config)] for study in STUDIES}
    pairs = [(study, flag) for study in STUDIES for flag in names[study] if study == "m1" or flag not in names["m1"]]
    return [(study, flag.replace("_", "-")) for study, flag in [*pairs, *(("gaussians", flag) for flag in OF_TRAIN)]]


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    succeeds(*train("m1", digits, folder / "run"), folder=folder)
    return folder / "run"


def works_or_says(ended, *names):
    """Exit code 0, or one sentence that names the flag or its value, as it is or in Python's letters."""
    names = [*names, *(repr(name)[1:-1] for name in names)]
    assert "Traceback" not in ended.output, ended.output[-3000:]
    if ended.code:
        refused(ended, *names)


def parts(flag):
    """What a message may call a flag: its name, its words, or a setting of the same meaning."""
    return (flag, flag.replace("-", "_"), flag.replace("-", " "), *flag.split("-"))


@pytest.fixture
def inside(tmp_path):
    """A folder that names can climb out of without leaving the test's own."""
    return tmp_path / "a" / "b" / "c"


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("study", "flag"), flags_of_studies())
def test_train(study, flag, value, digits, inside):
    """every flag of `train` of every study: -1, 0, nan, inf, 1e30, empty, 10,000 characters, 2^64, other letters"""
    words = (
        train(study, digits, inside / "run", "--batch-size", 4)
        if study != "gaussians"
        else train(study, digits, inside / "run")
    )
    words += ["--steps", "2", f"--{flag}={VALUES[value]}"]
    ended = run(*words, folder=inside)
    of = [VALUES[value][:50]] if VALUES[value] else []
    # a batch that is larger than the data, a step size that makes the loss infinite, and so on name what they break
    works_or_says(ended, *parts(flag), *of, "finite", "memory")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("command", "flag"), [(c, f) for c, (_, flags) in OTHERS.items() for f in flags])
def test_other_commands(command, flag, value, finished, inside):
    """every flag of every other command, the same values"""
    copy(finished, inside / "run")
    ended = run(*OTHERS[command][0], f"--{flag}={VALUES[value]}", folder=inside)
    works_or_says(ended, *parts(flag), VALUES[value][:50] or "''")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("command", ["train", "sweep", "show", "page", "release", "data", "measure"])
def test_names(command, value, finished, inside):
    """the names that commands take, the same values"""
    copy(finished, inside / "run")
    more = {"page": ("--out", "p.html"), "release": ("run", "--to", "to")}.get(command, ())
    ended = run(command, "--" if value == "-1" else VALUES[value], *more, folder=inside)
    works_or_says(ended, VALUES[value][:50] or "''", "name a", "Missing", "no folder")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("words", [("train", "gaussians", "--steps", "2"), ("list",)], ids=lambda w: w[0])
def test_variables(words, variable, value, tmp_path):
    """environment variables, the same values"""
    ended = run(*words, folder=tmp_path, environment={variable: VALUES[value]})
    works_or_says(ended, variable, VALUES[value][:50] or variable)


def python(*words, flags=(), environment=None, folder, shell=None):
    """A real start: what the terminal and the interpreter are told matters."""
    given = {**os.environ, **ENVIRONMENT, "VAE_RUNS": str(folder / "runs"), "HOME": str(folder),
             "PYTHONPATH": str(HERE.parents[1]), **(environment or {})}  # fmt: skip
    command = [sys.executable, *flags, "-m", "vae_helpers", *words]
    if shell is not None:
        command = ["bash", "-o", "pipefail", "-c", shell.format(" ".join(command))]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, timeout=240)


HABITS = {
    "forty columns": {"environment": {"COLUMNS": "40"}},
    "no colour": {"environment": {"NO_COLOR": "1"}},
    "LANG=C": {"environment": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
    "ASCII": {"environment": {"PYTHONIOENCODING": "ascii"}},
    "cp932": {"environment": {"PYTHONIOENCODING": "cp932"}},
    "no assertions": {"flags": ("-O",)},
    "warnings are errors of syntax only": {"flags": ("-W", "error::SyntaxWarning")},
    "a dead proxy": {"environment": {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}},
    "head": {"shell": "{} | head -1"},
    "no output": {"shell": "{} >&-"},
    "no input": {"shell": "{} <&-"},
    "a closed error output": {"shell": "{} 2>&-"},
    "a terminal": {"shell": 'script -qec "{}" /dev/null'},
    "a dumb terminal": {"environment": {"TERM": "dumb"}},
    "a file creation mask of 077": {"shell": "umask 077; {}"},
    "another backend": {"environment": {"MPLBACKEND": "pdf"}},
}


@pytest.mark.long
@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("words", [("list",), ("train", "gaussians", "--steps", "30"), ("show", "m1/z20")],
                         ids=lambda w: w[0])  # fmt: skip
def test_habits(words, habit, tmp_path):
    """| head, no terminal, 40 columns, NO_COLOR, LANG=C, other encodings, a dead proxy, python -O"""
    ended = python(*words, folder=tmp_path, **HABITS[habit])
    said = (ended.stdout + ended.stderr).decode(errors="replace")
    assert "Traceback" not in said, said
    assert "Exception ignored" not in said, said
    assert ended.returncode in ((0, 141) if habit == "head" else (0,)), said
    if words[0] == "train" and habit != "head":  # whose end ends the training
        assert list(tmp_path.glob("runs/gaussians/*/run.json"))


def float64():
    """In a process: another default type of numbers."""
    import torch

    torch.set_default_dtype(torch.float64)


def deterministic():
    """In a process: only algorithms that repeat, asked for by the user."""
    import torch

    torch.use_deterministic_algorithms(True)


def styled():
    """In a process: a user's matplotlib style."""
    import matplotlib.pyplot as plt

    plt.style.use("dark_background")
    plt.rcParams.update({"text.usetex": False, "figure.figsize": (1, 1), "savefig.dpi": 20, "image.cmap": "jet"})


@pytest.mark.parametrize("habit", [float64, deterministic, styled])
@pytest.mark.parametrize("study", STUDIES)
def test_habits_of_python(study, habit, digits, tmp_path):
    """another default dtype, deterministic algorithms, a matplotlib style"""
    words = train(study, digits, tmp_path / "run", "--steps", 4)
    works_or_says(run(*words, folder=tmp_path, how=How(disturb=habit)), "dtype", "float64", "determin")


@pytest.mark.parametrize("place", ["a folder with spaces", "ünïcödé", "-minus", "a'quotation\"", "x" * 200])
@pytest.mark.parametrize("command", ["train", "page", "release", "data", "sweep"])
def test_places(command, place, digits, finished, tmp_path):
    """working directories with odd names"""
    folder = tmp_path / place
    copy(finished, folder / "run")
    words = {
        "train": train("m1", digits, folder / "new", "--steps", 2),
        "page": ("page", "run", "--out", "p.html"),
        "release": ("release", "study/name", "run", "--to", "to"),
        "data": ("data", digits),
        "sweep": ("sweep", "gaussians", "--seeds", "0", "--grid", "steps=5", "--workers", "-1"),
    }[command]
    ended = run(*words, folder=folder)
    works_or_says(ended, "workers")
    assert ended.code == (1 if command == "sweep" else 0)


NUMBERS = (
    "numpy.int64(3)",
    "numpy.float32(3)",
    "True",
    "3.0",
    "'3'",
    "None",
    "[3]",
    "numpy.array(3)",
    "torch.tensor(3)",
)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["seed", "z_dim", "steps", "lr", "batch_size", "h_dims", "eval_every"])
def test_numbers(name, number, tmp_path):
    """numbers of other types in Python: converted, or refused before the first step"""
    import numpy  # as in the values
    import torch

    from vae_helpers.experiments import m1
    from vae_helpers.training import Budget, NonFiniteLossError

    value = eval(number, {"numpy": numpy, "torch": torch})
    given = {"seed": 0, "budget": Budget.SMOKE, "progress": False, "folder": tmp_path / "run"}
    config = {"data": "drawn-faces", "z_dim": 2, "h_dims": (4,), "steps": 3, "likelihood": "gaussian_optimal",
              "pixels": "grey"}  # fmt: skip
    (given if name in ("seed", "eval_every") else config)[name] = value
    try:
        m1.run(m1.M1Config(**config), **given)
    except NonFiniteLossError:  # of a step size of 3, which is accepted
        assert name == "lr"
    except (TypeError, ValueError) as error:
        said = str(error)
        assert name in said or name.replace("_", " ") in said
        assert not (tmp_path / "run" / "checkpoint.pt").exists(), "refused after the training"
    else:
        assert (tmp_path / "run" / "run.json").exists()
