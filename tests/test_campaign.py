"""Campaigns: plans of sweeps, a time limit, and archives of what was made."""

import itertools
import json
import math
import os
import re
import stat
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import LocalCluster

from vae_helpers.experiments import STUDIES, sweep, tasks
from vae_helpers.experiments.folders import plain
from vae_helpers.experiments.packing import LIMIT, pack_runs
from vae_helpers.experiments.plan import read_plan
from vae_helpers.training import Budget, fit, loop

PLAN = """
# the most wanted first
[[sweep]]
study = "gaussians"
seeds = "0..1"
budget = "smoke"
grid = { steps = 20, beta = [0.5, 2.0], h_dims = "4x4" }

[[sweep]]
study = "gaussians"
seeds = [0, 7]

[sweep.grid]
steps = 20
beta = 2.0
h_dims = "4x4"
"""


@pytest.fixture(scope="module")
def scheduler():
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    for name, value in {"RUNS": tmp_path / "runs", "BUDGET": "smoke", "OFFLINE": "1", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"VAE_{name}", str(value))
    monkeypatch.setattr("vae_helpers.experiments.run._commit", lambda: "abc")
    return tmp_path / "runs"


@pytest.fixture
def plan(tmp_path):
    def write(text=PLAN):
        path = tmp_path / "plan.toml"
        path.write_text(text)
        return path

    return write


# plans


def test_a_plan_has_its_sweeps_in_their_order_with_typed_values(plan):
    first, second = read_plan(plan())
    assert first.grid == {"steps": [20], "beta": [0.5, 2.0], "h_dims": [(4, 4)]}
    assert (first.study, list(first.seeds), first.budget) == ("gaussians", [0, 1], Budget.SMOKE)
    assert (list(second.seeds), second.grid["beta"]) == ([0, 7], [2.0])
    assert read_plan(plan(), budget=Budget.FULL)[1].budget is Budget.FULL


BAD_PLANS = {
    "unknown study": (PLAN.replace('"gaussians"', '"gausians"', 1), r"line 4: .*gausians"),
    "unknown key": (PLAN.replace('budget = "smoke"', 'budgets = "smoke"'), r"line 6: a sweep has no 'budgets'"),
    "unknown setting": (PLAN.replace("\nbeta = 2.0", "\nbeat = 2.0"), r"line 15: .*no setting 'beat'"),
    "unknown setting inline": (PLAN.replace("beta = [", "beat = ["), r"line 7: .*no setting 'beat'"),
    "wrong value": (
        PLAN.replace("\nsteps = 20\nbeta", "\nsteps = 2.5\nbeta"),
        r"line 14: .*'2.5' is no value of steps",
    ),
    "no values": (PLAN.replace("[0.5, 2.0]", "[]"), r"line 7: beta has no values"),
    "wrong budget": (PLAN.replace('"smoke"', '"big"'), r"line 6: budget must be smoke, quick or full, not 'big'"),
    "wrong seeds": (PLAN.replace("[0, 7]", '"few"'), r"line 11: .*write 0..4"),
    "no seeds": (PLAN.replace("[0, 7]", "[]"), r"line 11: .*"),
    "seeds missing": (PLAN.replace("seeds = [0, 7]", ""), r"line 9: this sweep has no seeds"),
    "grid is text": (
        PLAN.replace('grid = { steps = 20, beta = [0.5, 2.0], h_dims = "4x4" }', 'grid = "a"'),
        "line 7: grid",
    ),
    "no runs": ("# nothing yet", "has no runs"),
    "other table": ("[sweeps]\nstudy = 1", r"line 1: a plan has tables \[\[sweep\]\] only, not 'sweeps'"),
    "one bracket": ("[sweep]\nstudy = 1", r"tables \[\[sweep\]\] only"),
    "no TOML": (PLAN.replace("[0, 7]", "[0, 7"), r"line 1[34]"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_bad_plan_is_refused_in_one_sentence_with_the_line(plan, case):
    text, expected = BAD_PLANS[case]
    with pytest.raises(ValueError, match=expected) as error:
        read_plan(plan(text))
    assert "\n" not in str(error.value)
    assert "plan.toml" in str(error.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.toml"):
        read_plan(tmp_path / "none.toml")


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_out_of_range(plan, minutes):
    with pytest.raises(ValueError, match="minutes above 0"):
        sweep.sweep_plan(plan(), minutes=minutes)


def test_a_plan_runs_each_run_once_the_first_sweep_first(plan, scheduler, runs, tmp_path):
    table = sweep.sweep_plan(plan(), scheduler=scheduler, progress=False, out=tmp_path / "table.csv")
    assert list(table["seed"]) == [0, 1, 0, 1, 7]  # seed 0 of the second sweep stands in the first
    assert (table["status"] == "finished").all()
    assert (tmp_path / "table.csv").exists()
    stamps = [os.stat(os.path.join(folder, "run.json")).st_mtime_ns for folder in table["folder"]]
    assert stamps == sorted(stamps)
    again = sweep.sweep_plan(plan(), scheduler="tcp://127.0.0.1:1", progress=False)  # nothing is left to ask it for
    assert list(again["test_kl"]) == list(table["test_kl"])


def test_the_settings_of_every_sweep_of_a_plan_stand_before_the_seed():
    rows = [
        {"study": "m1", "z_dim": 2, "seed": 0, "budget": "smoke", "status": "finished", "test_kl": 1.0, "seconds": 2.0},
        {"study": "m2", "model": "m2", "seed": 0, "budget": "smoke", "status": "failed", "error": "a word"},
    ]
    expected = ["study", "z_dim", "model", "seed", "budget", "status", "test_kl", "seconds", "error"]
    assert list(sweep._table(rows, ["z_dim", "model"])) == expected


def test_a_plan_shows_how_far_each_run_is(plan, scheduler, capsys):
    sweep.sweep_plan(plan(), scheduler=scheduler)
    assert len(set(re.findall(r"gaussians/\S+_seed=\d: step 20 of 20", capsys.readouterr().err))) == 5


def test_settings_that_no_data_fit_name_their_sweep(plan):
    one = '[[sweep]]\nseeds = "0"\nstudy = '
    text = f'{one}"gaussians"\n{one}"m1"\ngrid.data = "/no/such/place"'
    with pytest.raises(ValueError, match=r"plan.toml, line 4: .*such"):
        sweep.sweep_plan(plan(text))


# the time limit


def clock(steps):
    """Time for `fit`: the limit is reached at a step, however fast the machine is."""
    readings = itertools.count(1)
    return SimpleNamespace(
        time=lambda: time.time() if next(readings) < steps else math.inf, perf_counter=time.perf_counter
    )


def test_fit_ends_at_a_step_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    config = STUDIES["gaussians"].config(steps=400, h_dims=(8,))
    study, given = STUDIES["gaussians"], {"seed": 0, "budget": Budget.SMOKE, "progress": False}
    whole = study.run(config, folder=tmp_path / "whole", **given)
    monkeypatch.setattr(loop, "time", clock(150))
    late = study.run(config, folder=tmp_path / "cut", until=time.time() + 1000, **given)
    assert late.history.interrupted
    assert late.steps == 150
    assert late.metrics == {}
    assert not late.history.evals or late.history.evals[-1]["step"] < late.steps  # it has no time to evaluate
    on = study.run(config, folder=tmp_path / "cut", resume=True, **given)
    assert on.metrics == whole.metrics
    cut, uncut = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("cut", "whole"))
    assert cut == uncut


def test_what_is_trained_at_the_time_limit_is_not_measured_after_it(tmp_path, monkeypatch):
    def slow_fit(*arguments, **options):
        options["until"] = None
        return fit(*arguments, **options)

    monkeypatch.setattr("vae_helpers.experiments.job.fit", slow_fit)
    config = STUDIES["gaussians"].config(steps=5)
    given = {"seed": 0, "budget": Budget.SMOKE, "progress": False, "folder": tmp_path}
    found = STUDIES["gaussians"].run(config, until=time.time(), **given)
    assert (found.steps, found.metrics) == (5, {})
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 5
    assert STUDIES["gaussians"].run(config, resume=True, **given).metrics


def test_a_sweep_ends_at_its_time_limit_and_goes_on_to_the_same_numbers(scheduler, runs, monkeypatch):
    grid, keeping = {"steps": [400], "beta": [1.0]}, {"seeds": [0, 1], "scheduler": scheduler, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", clock(150))
        cut = sweep.sweep("gaussians", grid, minutes=100, **keeping)
    assert list(cut["status"]) == ["failed"] * 2
    records = [json.loads((Path(folder) / "run.json").read_text()) for folder in cut["folder"]]
    assert [record["steps"] for record in records] == [150, 1]
    whole = STUDIES["gaussians"].run(
        STUDIES["gaussians"].config(steps=400), seed=0, budget=Budget.SMOKE, progress=False
    )
    table = sweep.sweep("gaussians", grid, **keeping)
    assert list(table["status"]) == ["finished"] * 2
    assert table["test_kl"][0] == whole.metrics["test_kl"]


def test_a_run_whose_turn_comes_after_the_limit_is_not_begun(runs):
    (cell,) = sweep.cells("gaussians", {"steps": [3]}, seeds=[0], budget=Budget.SMOKE)
    where = {name: getattr(cell, name) for name in ("seed", "budget", "folder", "data")}
    assert tasks.run_cell("gaussians", plain(cell.config), time.time(), **where) == {"metrics": {}}
    assert not cell.folder.exists()


def test_runs_that_the_limit_left_are_named_as_such(scheduler, runs):
    keeping = {"seeds": [0, 1], "scheduler": scheduler, "progress": False}
    table = sweep.sweep("gaussians", {"steps": [1_000_000]}, minutes=0.5 / 60, **keeping)
    assert list(table["error"]) == [sweep.LATE] * 2


# archives


def fake_run(folder, *, weights=1000, checkpoint=0, steps=5, of=5):
    folder.mkdir(parents=True)
    made = {"study": "m1", "config": {"steps": of}, "seed": 0, "budget": "smoke", "data": "none", "seconds": 1.0}
    (folder / "run.json").write_text(json.dumps({**made, "steps": steps, "metrics": {}}))
    generator = np.random.default_rng(0)
    (folder / "weights.safetensors").write_bytes(generator.bytes(weights))
    if checkpoint:
        (folder / "checkpoint.pt").write_bytes(generator.bytes(checkpoint))
    return folder


def members(archives):
    return [name for path in archives for name in tarfile.open(path).getnames()]


def test_archives_hold_records_first_then_weights_then_what_is_needed_to_go_on(tmp_path):
    root, to = tmp_path / "runs", tmp_path / "pack"
    done = fake_run(root / "m1" / "done", checkpoint=500)
    cut = fake_run(root / "m1" / "cut", steps=2, checkpoint=500)
    nothing = root / "m1" / "not begun"
    archives, too_large = pack_runs([done, cut, nothing], root, to)
    assert members(archives) == [
        "m1/done/run.json",
        "m1/cut/run.json",
        "m1/done/weights.safetensors",
        "m1/cut/weights.safetensors",
        "m1/cut/checkpoint.pt",
    ]
    assert [path.name for path in archives] == ["runs-01.tar.gz"]
    assert too_large == []


def test_archives_stay_within_their_size_and_a_file_beyond_it_is_named(tmp_path):
    root, to = tmp_path / "runs", tmp_path / "pack"
    to.mkdir()
    (to / "runs-09.tar.gz").write_bytes(b"of an earlier call")
    folders = [fake_run(root / "nonsyn" / str(i), weights=6_000_000) for i in range(5)]
    large = fake_run(root / "nonsyn" / "large", weights=LIMIT + 1)
    archives, too_large = pack_runs([*folders, large], root, to)
    assert too_large == [large / "weights.safetensors"]
    assert sorted(to.iterdir()) == archives
    assert len(archives) == 3
    assert all(path.stat().st_size <= LIMIT for path in archives)
    assert len(members(archives)) == 6 + 5


def test_a_sweep_that_was_packed_is_found_finished_elsewhere(scheduler, runs, tmp_path, monkeypatch):
    keeping = {"seeds": [0, 1], "progress": False}
    first = sweep.sweep("gaussians", {"steps": [20]}, scheduler=scheduler, pack=tmp_path / "pack", **keeping)
    (archive,) = (tmp_path / "pack").iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "elsewhere", filter="data")
    monkeypatch.setenv("VAE_RUNS", str(tmp_path / "elsewhere"))
    again = sweep.sweep("gaussians", {"steps": [20]}, scheduler="tcp://127.0.0.1:1", **keeping)
    assert list(again["test_kl"]) == list(first["test_kl"])


def test_archives_that_cannot_be_written_are_said_before_any_run(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="which is a file; name a folder"):
        sweep.sweep("gaussians", {"steps": [20]}, seeds=[0], pack=tmp_path / "file")
    assert not runs.exists()


# the multi-process service


def test_without_the_multi_process_service_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    with tasks.multi_process_service() as there:
        assert not there
    assert capsys.readouterr().out.count("\n") == 1
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_the_multi_process_service_is_started_and_ended_with_the_workers(monkeypatch, tmp_path):
    control, log = tmp_path / "nvidia-cuda-mps-control", tmp_path / "log"
    control.write_text(f'#!/bin/sh\necho "$@ $CUDA_MPS_PIPE_DIRECTORY" >> {log}\n[ "$1" = -d ] || cat >> {log}\n')
    control.chmod(control.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    with tasks.multi_process_service() as there:
        assert there
        place = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert os.path.isdir(place)
    said = log.read_text().splitlines()
    assert said == [f"-d {place}", f" {place}", "quit"]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_a_history_without_rows_is_no_trouble_to_whoever_watches(monkeypatch):
    said = []
    monkeypatch.setattr(tasks, "_say", said.append)
    (cell,) = sweep.cells("gaussians", {"steps": [3]}, seeds=[0], budget=Budget.SMOKE)
    where = {name: getattr(cell, name) for name in ("seed", "budget", "folder", "data")}
    tasks.run_cell("gaussians", plain(cell.config), **where)
    assert said[0].endswith("step 0 of 3")
    assert said[-1].endswith("step 3 of 3")


def test_the_plan_of_the_tables_can_be_run():
    planned = read_plan(Path(__file__).parents[1] / "benchmarks" / "full.toml")
    assert {one.study for one in planned} == {"nonsyn", "m2", "m1", "supervised", "warm_start"}
    for one in planned:
        for values in itertools.product(*one.grid.values()):
            config = STUDIES[one.study].config(**dict(zip(one.grid, values, strict=True)))  # or it says what is wrong
            assert config.steps_of(one.budget) >= 0


def test_a_start_of_the_plan_is_one_that_the_plan_trains():
    sweeps = read_plan(Path(__file__).parents[1] / "benchmarks" / "full.toml")
    planned = {}
    for study in ("supervised", "warm_start"):
        (one,) = (one for one in sweeps if one.study == study)
        grid = itertools.product(*one.grid.values())
        planned[study] = [STUDIES[study].config(**dict(zip(one.grid, values, strict=True))) for values in grid]
    for config in planned["warm_start"]:
        if config.start == "supervised":
            wanted = STUDIES["supervised"].config(code=config.code, source=config.source, bf16=config.bf16)
            assert wanted in planned["supervised"]


def test_a_value_with_a_comma_is_one_value(plan):
    text = '[[sweep]]\nstudy = "m1"\nseeds = "0"\ngrid = { data = "a,b.npy", size = "" }'
    assert read_plan(plan(text))[0].grid == {"data": ["a,b.npy"], "size": [""]}
