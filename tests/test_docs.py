"""The code of the README and of docs/ runs as it is printed."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest

from vae_helpers import objectives, priors, registry
from vae_helpers.__main__ import main
from vae_helpers.experiments import STUDIES
from vae_helpers.experiments import registry as studies
from vae_helpers.likelihoods import choice as likelihoods

ROOT = Path(__file__).resolve().parents[1]
SMALL = {  # what makes a command of the page take a second
    "m1": ["--steps", "3", "--h-dims", "4"],
    "widths": ["--steps", "3"],
}


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own with pictures, and registries that are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_BUDGET", "smoke")
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    monkeypatch.setenv("VAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VAE_EXTENSIONS", "")
    monkeypatch.delenv("VAE_DATA", raising=False)
    monkeypatch.setattr(studies, "STUDIES", dict(STUDIES))
    monkeypatch.setattr(studies, "_FILES", {})
    for parts in (priors.choice._PRIORS, likelihoods._LIKELIHOODS, objectives.choice._OBJECTIVES):
        monkeypatch.setattr(parts, "makers", dict(parts.makers))
    from PIL import Image

    for label in ("cats", "dogs"):
        folder = tmp_path / "my" / "pictures" / label
        folder.mkdir(parents=True)
        for i in range(60):
            noise = np.random.default_rng([i, len(label)]).integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{label}{i}.png")
    return tmp_path


def type_in(line, monkeypatch, capsys):
    """Run one printed command; environment variables before it are set."""
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    assert words[:3] == ["python", "-m", "vae_helpers"], line
    monkeypatch.setattr(sys, "argv", ["vae_helpers", *words[3:]])
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"{line}: {stop.code}") from None
    return capsys.readouterr().out


def test_every_block_of_the_page_on_extending_runs(place, monkeypatch, capsys):
    code = blocks("docs/extend.md", "python")
    (place / "my_parts.py").write_text("\n".join(code[:3]))
    (place / "widths.py").write_text(code[3])
    seen = []
    for line in "".join(blocks("docs/extend.md", "bash")).splitlines():
        words = line.split("#")[0]
        if " train " in words:
            study = words.split(" train ")[1].split()[0].removesuffix(".py")
            words += " " + " ".join(SMALL[study])
        else:  # a sweep: its grid and seeds as they are, on few steps
            words = words.replace("--grid ", "--grid steps=3 batch_size=8 ")
        seen.append(type_in(words, monkeypatch, capsys))
    assert len(seen) == 5
    assert "test_importance_log_px" in seen[0]
    assert "4 of 4 runs finished" in seen[2]
    assert "test_elbo_bound" in seen[3]
    assert "6 of 6 runs finished" in seen[4]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def test_the_parts_of_the_page_are_right(place):
    """The prior integrates to one, the MMD of one law is about zero, settings behind a colon arrive."""
    import torch

    import vae_helpers as vh

    path = place / "parts_of_the_page.py"
    path.write_text("\n".join(blocks("docs/extend.md", "python")[:3]))
    parts = load(path)
    grid = torch.linspace(-30, 30, 200_001)[:, None]
    density = priors.choose_prior("laplace:b=0.5", z_dim=1).log_prob(grid).exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-4)
    assert likelihoods.choose_likelihood("laplace:scale=0.3").scale == 0.3
    torch.manual_seed(0)
    a, b = torch.randn(2, 3000, 2)
    assert abs(parts.mmd(a, b).item()) < 0.003
    assert parts.mmd(a, b + 1).item() > 0.1
    with pytest.raises(ValueError, match="choose one of info_vae"):
        objectives.choose_objective("infovae")
    with pytest.raises(ValueError, match="unexpected keyword argument 'wait'"):
        objectives.choose_objective("info_vae:wait=3")
    vh.register_prior("laplace", parts.LaplacePrior)  # a cell that is run again
    with pytest.raises(ValueError, match="a prior named 'standard' is there already"):
        vh.register_prior("standard", parts.LaplacePrior)


@pytest.mark.parametrize("study", ["m1", "m2", "conditional", "nonsyn"])
def test_a_prior_and_a_likelihood_of_ones_own_reach_the_studies(place, study):
    import vae_helpers as vh

    path = place / "parts_for_studies.py"
    path.write_text("\n".join(blocks("docs/extend.md", "python")[:3]))
    load(path)
    small = {"m1": {"h_dims": (4,), "pixels": "grey"}, "m2": {"h_dims": (4,), "pixels": "grey", "n_labels": 4}}
    small |= {"conditional": {"thorough": True}, "nonsyn": {"method": "vae"}}
    x, y = np.random.default_rng(0).integers(0, 256, (60, 12, 10), dtype=np.uint8), np.arange(60) % 2
    options = {"images": x, "labels": y, "steps": 2, "batch_size": 8, "z_dim": 3, "progress": False}
    run = vh.train(study, prior="laplace", likelihood="laplace:scale=0.2", **small[study], **options)
    assert type(run.model.prior).__name__ == "LaplacePrior"
    assert run.model.likelihood.scale == 0.2
    assert run.record["config"]["likelihood"] == "laplace:scale=0.2"
    assert all(np.isfinite(value) for value in run.metrics.values())
    assert not any("bits" in name for name in run.metrics)  # it gives 8-bit levels no probability


def test_the_names_of_a_registry_and_its_settings():
    parts = registry.Registry("thing")
    parts.register("a-b", lambda z, *, n=1, word="", flag=False: (z, n, word, flag))
    assert parts.make("a-b:n=3,word=x y,flag=true", 7) == (7, 3, "x y", True)
    assert parts.make("a-b:n=0.5", 7) == (7, 0.5, "", False)
    for text, message in (("a-b:n", "as a-b:key=value"), ("a-b:m=1", "'m'"), ("c", "choose one of a-b")):
        with pytest.raises(ValueError, match=message):
            parts.make(text, 7)
    with pytest.raises(ValueError, match="letters, digits"):
        parts.register("a:b", len)


def test_the_readmes_commands_for_own_pictures_run_as_printed(place, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text().split("## Your own pictures")[1].split("\n## ")[0]
    np.savez(
        place / "my" / "pictures.npz", images=np.random.default_rng(0).integers(0, 256, (60, 9, 9, 3), dtype=np.uint8)
    )
    lines = [line.split("#")[0] for line in re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1].splitlines()]
    assert len(lines) == 4
    small = {"m1": " --steps 3 --h-dims 4", "gmvae": " --steps 3 --h-dims 4 --batch-size 16"}
    for line in lines:
        if "fashion-mnist" in line:  # has to be fetched
            continue
        study = line.split(" train ")[-1].split()[0]
        said = type_in(line + small.get(study, ""), monkeypatch, capsys)
        assert "my/pictures" in line
        assert "test_" in said or "2 classes: cats, dogs" in said


def test_the_readmes_python_runs_as_printed(place, monkeypatch):
    matplotlib.use("agg")
    code = blocks("README.md", "python")
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), {})


def commands_of(path):
    """The commands that the text of a notebook prints, without comments."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return [found.split(" #")[0].strip() for found in re.findall(r"python -m vae_helpers [a-z][^`\n]*", text)]


COMMANDS = sorted(
    {line for path in ROOT.glob("notebooks/*.ipynb") for line in commands_of(path) if "celeba" not in line}
)


def in_seconds(line):
    """The same command with few steps, the first value of each setting and one seed."""
    line = re.sub(r"--budget \w+", "--budget smoke", line)
    line = re.sub(r"--seeds \S+", "--seeds 0", re.sub(r"--eval-every \d+", "--eval-every 1", line))
    if " sweep " in line:
        line = re.sub(r"(\w+=[^\s,]+)(?:,\S+)", r"\1", re.sub(r" steps=\S+", "", line))
        return line.replace("--grid", "--grid steps=2")
    return re.sub(r"--steps \d+", "", line) + " --steps 2" if " train " in line else line


def test_commands_are_found_and_shortened():
    assert len(COMMANDS) >= 8
    long = "python -m vae_helpers sweep m1 --budget full --grid z_dim=5,10 h_dims=3x3 steps=7 --seeds 0..2"
    short = "python -m vae_helpers sweep m1 --budget smoke --grid steps=2 z_dim=5 h_dims=3x3 --seeds 0"
    assert in_seconds(long) == short


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_notebooks_run_as_printed(place, monkeypatch, capsys, line):
    said = type_in(in_seconds(line), monkeypatch, capsys)
    assert re.search(r"test_|classes|^ok ", said, re.MULTILINE)
