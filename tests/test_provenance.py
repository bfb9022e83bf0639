"""Runs that know their data: other data are refused on resuming and by a sweep, and new settings are not."""

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_helpers.data import Images
from vae_helpers.experiments import STUDIES, load_released, registry, tasks
from vae_helpers.experiments import run as runs
from vae_helpers.experiments import sweep as sweeps
from vae_helpers.experiments.cells import facts_of
from vae_helpers.experiments.folders import finished_record, plain, run_folder
from vae_helpers.experiments.m1 import M1Config
from vae_helpers.experiments.nonsyn import NonSynConfig
from vae_helpers.training import Budget, CheckpointError

ROOT = Path(__file__).resolve().parents[1]
SMOKE = {"seed": 0, "budget": Budget.SMOKE, "progress": False}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    monkeypatch.delenv("VAE_DATA", raising=False)


def noise(seed, n=40):
    x = torch.randint(256, (n, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Images("noise", "noise", (8, 8), x[: n // 2], x[n // 2 :])


def small(**settings):
    return M1Config(**({"data": "own", "z_dim": 2, "h_dims": (4,), "batch_size": 5, "steps": 4} | settings))


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    run = STUDIES["m1"].run
    first = run(small(), images=noise(0), folder=tmp_path / "a", **SMOKE)
    assert first.record["data_sha256"] == noise(0).fingerprint
    before = (tmp_path / "a" / "run.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"on other data .*Put back the data it was made with"):
        run(small(steps=8), images=noise(1), folder=tmp_path / "a", resume=True, **SMOKE)
    assert (tmp_path / "a" / "run.json").read_bytes() == before
    on = run(small(steps=8), images=noise(0), folder=tmp_path / "a", resume=True, **SMOKE)
    assert on.steps == 8


@pytest.mark.parametrize("study", ["m1", "m2", "gmvae", "conditional", "judge"])
def test_every_study_of_images_refuses_other_data(images, tmp_path, study):
    others = replace(images, x_train=images.x_train.flip(0))  # the same pictures in another order
    small = {"batch_size": 8, "steps": 2}
    small |= {"m2": {"n_labels": 10}, "conditional": {"thorough": False}}.get(study, {})
    config = STUDIES[study].config(**small)
    STUDIES[study].run(config, images=images, folder=tmp_path, **SMOKE)
    longer = replace(config, steps=2 if config.decay else 3)  # with decay, another number of steps is another run
    with pytest.raises(CheckpointError, match="other data"):
        STUDIES[study].run(longer, images=others, folder=tmp_path, resume=True, **SMOKE)


def test_a_checkpoint_without_a_fingerprint_goes_on(tmp_path):
    """Made before fingerprints were kept."""
    run = STUDIES["m1"].run
    run(small(), images=noise(0), folder=tmp_path, **SMOKE)
    path = tmp_path / "checkpoint.pt"
    rewrite(path, lambda state: state.pop("data"))
    assert run(small(steps=8), images=noise(0), folder=tmp_path, resume=True, **SMOKE).steps == 8


def rewrite(path, change):
    import io

    from vae_helpers.training import checkpoint

    state = torch.load(io.BytesIO(path.read_bytes()[checkpoint.DIGEST_BYTES :]), weights_only=True)
    del state["format"]
    change(state)
    checkpoint.save(path, state)


def own_file(tmp_path, seed):
    path = tmp_path / "own.npy"
    np.save(path, np.random.default_rng(seed).integers(0, 256, (40, 8, 8), dtype=np.uint8))
    return path


def in_this_process(monkeypatch):
    """Sweeps without processes of their own."""

    class Client:
        pass

    def results(client, waiting, until):
        for cell in waiting:
            try:
                where = {"seed": cell.seed, "budget": cell.budget, "folder": cell.folder, "data": cell.data}
                yield cell, tasks.run_cell(cell.study, plain(cell.config), **where)
            except Exception as error:
                yield cell, error

    import contextlib

    monkeypatch.setattr(tasks, "_client", lambda *args: contextlib.nullcontext(Client()))
    monkeypatch.setattr(tasks, "_results", results)


def test_a_sweep_does_not_count_runs_of_other_data(monkeypatch, tmp_path):
    in_this_process(monkeypatch)
    grid = {"data": [str(own_file(tmp_path, 0))], "z_dim": [2], "h_dims": [(4,)], "batch_size": [5], "steps": [4]}
    first = sweeps.sweep("m1", grid, seeds=[0, 1], budget=Budget.SMOKE, progress=False)
    assert list(first["status"]) == ["finished"] * 2
    own_file(tmp_path, 1)  # the same name, other pictures
    second = sweeps.sweep("m1", grid, seeds=[0, 1, 2], budget=Budget.SMOKE, progress=False)
    assert list(second["status"]) == ["failed", "failed", "finished"]
    assert second["error"].str.contains("on other data").tolist() == [True, True, False]
    assert second["data_sha256"].dropna().iloc[-1] != first["data_sha256"].iloc[0]


def test_data_that_change_while_a_sweep_runs_are_seen(monkeypatch, tmp_path):
    in_this_process(monkeypatch)
    path = own_file(tmp_path, 0)
    grid = {"data": [str(path)], "z_dim": [2], "h_dims": [(4,)], "batch_size": [5], "steps": [4]}
    (cell,) = sweeps.cells("m1", grid, seeds=[0], budget=Budget.SMOKE)
    own_file(tmp_path, 1)
    where = {"seed": 0, "budget": Budget.SMOKE, "folder": cell.folder, "data": cell.data}
    with pytest.raises(tasks.DataError, match="not those that the sweep began with"):
        tasks.run_cell("m1", plain(cell.config), **where)
    assert not cell.folder.exists()


def test_settings_that_a_run_decides_itself_count_as_finished(tmp_path):
    config = NonSynConfig(method="capacity", data="dsprites_small", batch_size=4, steps=3, z_dim=3)
    STUDIES["nonsyn"].run(config, folder=tmp_path, **SMOKE)
    data = config.load()
    facts = facts_of(data)
    cell = sweeps.Cell("nonsyn", config.resolved(Budget.SMOKE, data), 0, Budget.SMOKE, tmp_path, facts)
    record = cell.finished()
    assert record is not None
    assert record["config"]["rising_steps"] == 2
    rising = replace(config, method="beta_vae", rising_steps=2)
    rising = rising.resolved(Budget.SMOKE, data)
    assert sweeps.Cell("nonsyn", rising, 0, Budget.SMOKE, tmp_path, facts).finished() is None


def test_a_new_setting_leaves_finished_runs_finished_and_checkpoints_usable(tmp_path):
    """What is newer than a record counts as its default; another value than the default is another run."""
    STUDIES["m1"].run(small(), images=noise(0), folder=tmp_path, **SMOKE)
    record = json.loads((tmp_path / "run.json").read_text())
    for name in ("size", "channels", "n_classes", "split_seed", "test_share"):
        del record["config"][name]
    (tmp_path / "run.json").write_text(json.dumps(record))

    def finished(**settings):
        config = small(**settings).resolved(Budget.SMOKE, noise(0))
        return finished_record(tmp_path, config, noise(0), 0, Budget.SMOKE)

    assert finished() is not None
    assert finished(test_share=0.2) is None
    rewrite(tmp_path / "checkpoint.pt", lambda state: [state["config"].pop(k) for k in ("size", "split_seed")])
    again = {"images": noise(0), "folder": tmp_path, "resume": True, **SMOKE}
    with pytest.raises(CheckpointError, match="split_seed: 0 there, 1 here"):
        STUDIES["m1"].run(small(steps=8, split_seed=1), **again)
    assert STUDIES["m1"].run(small(steps=8), **again).steps == 8


def test_an_older_record_is_compared_by_its_source(tmp_path):
    STUDIES["m1"].run(small(), images=noise(0), folder=tmp_path, **SMOKE)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["data_sha256"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    config = small().resolved(Budget.SMOKE, noise(0))
    assert finished_record(tmp_path, config, noise(0), 0, Budget.SMOKE) is not None
    other = replace(noise(0), source="other noise")
    assert finished_record(tmp_path, config, other, 0, Budget.SMOKE) is None


def test_loading_a_released_model_leaves_torchs_generator_alone():
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    load_released("m1/z2")
    assert torch.equal(torch.randn(3), expected)


def test_a_package_inside_another_project_does_not_name_its_commit(monkeypatch, tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    package = tmp_path / "venv" / "vae_helpers"
    package.mkdir(parents=True)
    shutil.copy(runs.vae_helpers.__file__, package / "__init__.py")
    (tmp_path / "theirs.txt").write_text("theirs")
    for words in (["init", "-q"], ["add", "theirs.txt"], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(runs.vae_helpers, "__file__", str(package / "__init__.py"))
    assert runs._commit() == ""
    subprocess.run([*git, "add", "venv"], check=True)  # kept in the project: then its commit says which it is
    subprocess.run([*git, "commit", "-q", "-m", "with the package"], check=True)
    assert len(runs._commit()) == 12


def test_the_record_names_the_packages_version(tmp_path):
    found = STUDIES["m1"].run(small(), images=noise(0), **SMOKE)
    assert found.record["versions"]["vae_helpers"] == runs.vae_helpers.__version__


def test_long_settings_still_make_a_folder_that_a_file_system_takes():
    folders = {run_folder("m1", small(data="x" * 200 + tail), 0, Budget.SMOKE) for tail in "ab"}
    assert len(folders) == 2
    assert max(len(folder.name) for folder in folders) < 200


def test_a_folder_with_the_settings_in_another_order_is_found_again():
    config = M1Config(z_dim=5, steps=20, lr=0.01)
    new = run_folder("m1", config, 0, Budget.QUICK)
    assert new.name == "z_dim=5_steps=20_lr=0.01_quick_seed=0"
    for other in ("z_dim=5_lr=0.01_steps=20_full_seed=0", "lr=5_steps=20_z_dim=0.01_quick_seed=0", "x_quick_seed=0"):
        (new.parent / other).mkdir(parents=True)
        assert run_folder("m1", config, 0, Budget.QUICK) == new
    older = new.parent / "lr=0.01_z_dim=5_steps=20_quick_seed=0"
    older.mkdir()
    assert run_folder("m1", config, 0, Budget.QUICK) == older


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"z_dim": np.int64(3)}, 3),
        ({"x_var": np.float32(0.5)}, 0.5),
        ({"x_var": 1}, 1.0),
        ({"h_dims": [np.int64(4), 5]}, (4, 5)),
        ({"decay": np.bool_(True)}, True),
    ],
)
def test_numbers_of_numpy_are_kept_as_plain_values(settings, kept):
    (name,) = settings
    value = getattr(M1Config(**settings), name)
    assert value == kept
    assert type(value) is type(kept)
    json.dumps(plain(M1Config(**settings)))


@pytest.mark.parametrize("settings", [{"z_dim": "3"}, {"h_dims": 3}, {"decay": 1}, {"data": 3}, {"h_dims": (4.5,)}])
def test_a_setting_of_another_type_is_refused_at_once(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be"):
        M1Config(**settings)


def test_pictures_of_another_size_than_the_settings_are_refused():
    with pytest.raises(ValueError, match=r"size is 9x8 in the settings, but 8x8 in the images \(noise\)"):
        STUDIES["m1"].run(small(size="9x8"), images=noise(0), **SMOKE)


# ---- studies of one's own


STUDY_FILE = '''
from dataclasses import dataclass
from typing import ClassVar
from vae_helpers.experiments import Study, m1
from vae_helpers.experiments.m1 import M1Config

@dataclass(frozen=True, kw_only=True)
class MineConfig(M1Config):
    """Mine."""
    STUDY: ClassVar = "mine"
    z_dim: int = 2
    """latents"""
    batch_size: int = 5
    """images per step"""

STUDY = Study(MineConfig, "a study of my own", m1.build, m1.run)
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "STUDIES", dict(STUDIES))
    monkeypatch.setattr(registry, "_FILES", {})
    monkeypatch.setenv("VAE_EXTENSIONS", "")
    path = tmp_path / "mine.py"
    path.write_text(STUDY_FILE)
    return path


def test_a_study_of_ones_own_is_found_by_its_path_and_then_by_its_name(file, tmp_path):
    study = registry.study_of(str(file))
    assert registry.study_of("mine") is study
    found = study.run(study.config(h_dims=(4,), steps=2), images=noise(0), folder=tmp_path / "run", **SMOKE)
    assert found.study == "mine"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["study"] == "mine"


def test_a_file_without_a_study_a_missing_file_and_a_taken_name_are_refused(file, tmp_path):
    (tmp_path / "none.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"none.py has no STUDY"):
        registry.study_of(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match=r"there is no file .*gone.py"):
        registry.study_of(str(tmp_path / "gone.py"))
    file.write_text(STUDY_FILE.replace('"mine"', '"m1"'))
    with pytest.raises(ValueError, match="a study named 'm1' is there already"):
        registry.study_of(str(file))


def test_the_command_line_trains_and_sweeps_a_study_of_ones_own_on_processes_of_their_own(file, tmp_path):
    data = own_file(tmp_path, 0)
    type_in = [sys.executable, "-m", "vae_helpers"]
    words = ["--data", str(data), "--h-dims", "4", "--steps", "2", "--budget", "smoke"]
    done = subprocess.run([*type_in, "train", str(file), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    grid = [f"data={data}", "h_dims=4", "z_dim=2,3", "steps=2"]
    swept = subprocess.run(
        [*type_in, "sweep", str(file), "--seeds", "0..0", "--workers", "2", "--budget", "smoke", "--grid", *grid],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "2 of 2 runs finished" in swept.stdout


# ---- what is written twice agrees


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.name)
def test_the_help_of_steps_has_the_numbers_of_the_study(study):
    said = re.search(
        r"optimiser steps; 0 .*?: smoke ([\d,]+), quick ([\d,]+), full ([\d,]+)", inspect.getsource(study.config)
    )
    assert said, f"{study.name}: the docstring of steps names no numbers"
    expected = [study.config().steps_of(budget) for budget in Budget]
    assert [int(number.replace(",", "")) for number in said.groups()] == expected


def test_own_settings_come_before_inherited_ones_in_help_and_records():
    names = list(plain(M1Config()))
    assert names.index("z_dim") < names.index("lr") < names.index("validation")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_can_be_imported(path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    importlib.import_module(f"benchmarks.{path.stem}")
