"""A sweep: a grid of runs as Dask tasks, on a scheduler that is given and on a cluster of its own."""

import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
from dataclasses import replace

import distributed
import numpy as np
import pandas as pd
import pytest
import torch

from vae_helpers.__main__ import main
from vae_helpers.experiments import STUDIES, tasks
from vae_helpers.experiments import grid as grids
from vae_helpers.experiments import sweep as sweeps
from vae_helpers.experiments.cells import facts_of
from vae_helpers.experiments.folders import plain, run_folder
from vae_helpers.experiments.gaussians import GaussiansConfig
from vae_helpers.training import Budget, CheckpointError

STEPS = 20
IN_THIS_PROCESS = {
    "processes": False,
    "protocol": "tcp://",
    "dashboard_address": "127.0.0.1:0",
    "memory_limit": None,
}
PATIENCE_S = 300  # for processes that start on a busy machine; they take seconds


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler and a worker with two threads in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the cells, so that sums are in the same order
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **IN_THIS_PROCESS) as cluster:
        yield cluster.scheduler_address
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    """The folder that the run folders lie in."""
    monkeypatch.setenv("VAE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VAE_BUDGET", "smoke")
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    monkeypatch.setattr("vae_helpers.experiments.run._commit", lambda: "abc")  # git takes longer than a run
    return tmp_path / "runs"


@pytest.fixture
def sweep(scheduler):
    """A sweep of ``gaussians`` on the scheduler."""

    def start(grid, seeds=(0,), **options):
        grid = {"steps": [STEPS], **grid}
        return sweeps.sweep("gaussians", grid, seeds=seeds, scheduler=scheduler, progress=False, **options)

    return start


@pytest.fixture
def no_workers(monkeypatch):
    """A sweep that asks for workers fails."""

    def client(*arguments):
        raise AssertionError("workers were started")

    monkeypatch.setattr(tasks, "_client", client)


@pytest.fixture
def study_run(monkeypatch):
    """Put another function in the place of the study's run."""

    def use(run):
        monkeypatch.setitem(STUDIES, "gaussians", replace(STUDIES["gaussians"], run=run))

    return use


@pytest.fixture
def type_in(monkeypatch, capsys):
    """Type a sweep command that cannot be done; returns its error, which must be one line with exit code 1."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["vae_helpers", "sweep", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        message = str(stop.value.code)  # a text as its code means: print it to stderr and exit with 1
        assert message.startswith("error: ")
        assert "\n" not in message
        assert capsys.readouterr() == ("", "")
        return message

    return command


def direct(seed=0, **settings):
    """The metrics of the same run, made without a sweep."""
    config = GaussiansConfig(**{"steps": STEPS, **settings})
    return STUDIES["gaussians"].run(config, seed=seed, budget=Budget.SMOKE, progress=False).metrics


def metrics_of(row):
    return {name: row[name] for name in row.index if name.startswith("test_")}


def record_of(row):
    with open(os.path.join(row["folder"], "run.json")) as file:
        return json.load(file)


def read_text(path):
    """A table with the texts of its file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def stamps(table):
    return {folder: os.stat(os.path.join(folder, "run.json")).st_mtime_ns for folder in table["folder"]}


# the table


def test_one_row_a_cell_in_the_order_of_the_grid(sweep, runs, tmp_path):
    out = tmp_path / "tables" / "sweep.csv"
    table = sweep({"beta": [2.0, 0.5], "h_dims": [(4,), (3, 2)]}, seeds=[1, 0], out=out)
    expected = [(STEPS, b, h, s) for b in (2.0, 0.5) for h in ("4", "3x2") for s in (1, 0)]
    assert list(zip(table["steps"], table["beta"], table["h_dims"], table["seed"], strict=True)) == expected
    assert list(table.columns[:7]) == ["study", "steps", "beta", "h_dims", "seed", "budget", "status"]
    assert list(table.columns[-len(sweeps.LAST) :]) == list(sweeps.LAST)
    assert set(table["status"]) == {"finished"}
    assert set(table["error"]) == {""}
    assert table["folder"].is_unique
    assert set(table["steps_done"]) == {STEPS}
    for _, row in table.iterrows():
        record = record_of(row)
        assert metrics_of(row) == record["metrics"]
        assert row["seed"] == record["seed"]
        assert row["beta"] == record["config"]["beta"]
        assert row["h_dims"] == "x".join(map(str, record["config"]["h_dims"]))
        assert row["budget"] == record["budget"] == "smoke"
        assert [row[key] for key in ("data_source", "hardware", "commit", "seconds")] == [
            record[key] for key in ("data", "hardware", "commit", "seconds")
        ]
    pd.testing.assert_frame_equal(read_text(out), table.astype(str), check_dtype=False)


def test_a_cell_has_the_numbers_of_the_same_run_made_directly(sweep):
    """Also where a worker has two threads, which would share torch's random state."""
    table = sweep({"beta": [0.5]}, seeds=range(4))
    for _, row in table.iterrows():
        assert metrics_of(row) == direct(row["seed"], beta=0.5)
    assert table["test_log_px"].nunique() == 4


def test_a_setting_keeps_its_column_where_the_record_has_the_same_word(sweep):
    table = sweep({"data": ["linear", "two_clusters"], "steps": [10, 0]})
    assert list(table["data"]) == ["linear", "two_clusters", "linear", "two_clusters"]
    assert list(table["steps"]) == [10, 10, 0, 0]
    assert list(table["steps_done"]) == [10, 10, 200, 200]
    assert table["data_source"].str.contains("5,000 train").all()


def test_run_folders_are_absolute_and_those_of_the_train_command(sweep, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_RUNS", "here")
    folder = sweep({"beta": [0.5]})["folder"][0]
    config = GaussiansConfig(beta=0.5, steps=STEPS)
    assert folder == str(tmp_path / run_folder("gaussians", config, 0, Budget.SMOKE))
    assert os.path.exists(os.path.join(folder, "weights.safetensors"))


# finished and unfinished cells


def test_finished_cells_are_not_run_again(sweep, no_workers_after, tmp_path):
    first = sweep({"beta": [0.5, 2.0]}, seeds=[0, 1])
    before = stamps(first)
    no_workers_after()
    again = sweep({"beta": [0.5, 2.0]}, seeds=[0, 1], out=tmp_path / "again.csv")
    pd.testing.assert_frame_equal(again, first, check_exact=True)
    assert stamps(again) == before
    assert (tmp_path / "again.csv").exists()


@pytest.fixture
def no_workers_after(request):
    return lambda: request.getfixturevalue("no_workers")


def test_a_larger_grid_runs_what_is_new_only(sweep):
    first = sweep({"beta": [2.0]})
    table = sweep({"beta": [0.5, 2.0]})
    assert list(table["beta"]) == [0.5, 2.0]
    assert stamps(first).items() <= stamps(table).items()
    pd.testing.assert_frame_equal(table.iloc[[1]].reset_index(drop=True), first, check_exact=True)


def test_a_worker_takes_a_run_that_was_finished_meanwhile(sweep, study_run):
    sweep({"beta": [0.5]})
    study_run(None)
    (cell,) = sweeps.cells("gaussians", {"beta": [0.5], "steps": [STEPS]}, seeds=[0], budget=Budget.SMOKE)
    assert tasks.run_cell(cell.study, plain(cell.config), **where(cell)) == cell.finished()


def test_settings_that_the_images_decide_are_those_of_the_finished_run(scheduler):
    """The latents that M1+M2 reads are found on the images, which the sweep has loaded for it."""
    grid = {"model": ["m1_m2", "m1_svm"], "m1": ["m1/z20"]}
    keeping = {"seeds": [0, 1], "budget": Budget.SMOKE, "scheduler": scheduler, "progress": False}
    table = sweeps.sweep("m2", grid, **keeping)
    assert (table["status"] == "finished").all(), table["error"].tolist()
    assert len(record_of(table.iloc[0])["config"]["m1_latents"]) > 1
    cells = sweeps.cells("m2", grid, seeds=[0, 1], budget=Budget.SMOKE)
    assert all(cell.finished() is not None for cell in cells)


@pytest.mark.parametrize("left", ["checkpoint only", "record of a stopped run"])
def test_a_cell_that_was_cut_off_goes_on_from_its_checkpoint(sweep, left):
    config = GaussiansConfig(beta=0.5, steps=200)
    folder = run_folder("gaussians", config, 0, Budget.SMOKE)
    half = replace(config, steps=100)
    STUDIES["gaussians"].run(half, seed=0, budget=Budget.SMOKE, folder=folder, progress=False)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").unlink()
    if left == "record of a stopped run":
        stopped = {**record, "metrics": {}, "config": {**record["config"], "steps": 200}}
        (folder / "run.json").write_text(json.dumps(stopped))
    row = sweep({"steps": [200], "beta": [0.5]}).iloc[0]
    assert row["status"] == "finished"
    assert metrics_of(row) == direct(beta=0.5, steps=200)
    rows = record_of(row)["history"]["rows"]
    assert [entry["step"] for entry in rows] == [50, 100, 150, 200]
    assert rows[:2] == record["history"]["rows"]  # wall times too: the first half was not made again


RECORD_CHANGES = {
    "other setting": lambda record: record["config"].update(lr=0.5),
    "other steps": lambda record: record["config"].update(steps=10),
    "setting missing that was not the default": lambda record: record["config"].pop("h_dims"),
    "setting unknown": lambda record: record["config"].update(new=1),
    "other seed": lambda record: record.update(seed=5),
    "other budget": lambda record: record.update(budget="full"),
    "other study": lambda record: record.update(study="m1"),
    "no metrics": lambda record: record.update(metrics={}),
    "too few steps": lambda record: record.update(steps=STEPS - 1),
    "no config": lambda record: record.pop("config"),
}


@pytest.fixture(scope="module")
def finished_record(tmp_path_factory):
    config = GaussiansConfig(steps=STEPS, h_dims=(4,))
    folder = tmp_path_factory.mktemp("finished")
    STUDIES["gaussians"].run(config, seed=0, budget=Budget.SMOKE, folder=folder, progress=False)
    return (folder / "run.json").read_text()


@pytest.fixture
def cell(tmp_path):
    config = GaussiansConfig(steps=STEPS, h_dims=(4,))
    return sweeps.Cell("gaussians", config, 0, Budget.SMOKE, tmp_path, facts_of(config.load()))


def test_a_whole_record_with_these_settings_is_finished(cell, finished_record):
    assert cell.finished() is None
    (cell.folder / "run.json").write_text(finished_record)
    assert cell.finished() == json.loads(finished_record)
    assert replace(cell, config=replace(cell.config, steps=0)).finished() is None  # the budget gives 200


@pytest.mark.parametrize("change", RECORD_CHANGES)
def test_a_record_of_something_else_is_not_finished(cell, finished_record, change):
    record = json.loads(finished_record)
    RECORD_CHANGES[change](record)
    (cell.folder / "run.json").write_text(json.dumps(record))
    assert cell.finished() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_a_record_that_cannot_be_read_is_not_finished(cell, text):
    (cell.folder / "run.json").write_text(text)
    assert cell.finished() is None


def test_a_folder_of_other_settings_is_a_failed_cell_that_says_so(sweep):
    config = GaussiansConfig(beta=0.5, steps=STEPS)
    folder = run_folder("gaussians", config, 0, Budget.SMOKE)
    STUDIES["gaussians"].run(replace(config, lr=0.25), seed=0, budget=Budget.SMOKE, folder=folder, progress=False)
    before = (folder / "run.json").read_bytes()
    row = sweep({"beta": [0.5]}).iloc[0]
    assert row["status"] == "failed"
    assert row["error"].startswith("CheckpointError: ")
    assert "lr: 0.25 there, 0.001 here" in row["error"]
    assert (folder / "run.json").read_bytes() == before


def where(cell):
    return {"seed": cell.seed, "budget": cell.budget, "folder": cell.folder, "data": cell.data}


# failures


@pytest.mark.parametrize(("key", "bad", "good"), [("beta", -1.0, 0.5), ("x_var", -1.0, 0.5), ("lr", -1.0, 0.01)])
def test_a_cell_that_fails_leaves_the_others_alone(sweep, tmp_path, key, bad, good):
    table = sweep({key: [bad, good]}, seeds=[0, 1], out=tmp_path / "sweep.csv")
    assert list(table["status"]) == ["failed", "failed", "finished", "finished"]
    assert list(table.columns[-len(sweeps.LAST) :]) == list(sweeps.LAST)
    for error in table["error"][:2]:
        assert error.startswith("ValueError: ")
        assert key in error
        assert "-1" in error
    assert list(table["error"][2:]) == ["", ""]
    assert table["test_elbo_bound"].isna().tolist() == [True, True, False, False]
    for _, row in table[2:].iterrows():
        assert metrics_of(row) == direct(row["seed"], **{key: good})
    assert list(read_text(tmp_path / "sweep.csv")["error"]) == list(table["error"])


def test_a_cell_that_failed_is_tried_again(sweep, study_run):
    def fail(config, **options):
        raise OSError("the disk\nis full")

    run = STUDIES["gaussians"].run
    study_run(fail)
    assert list(sweep({"beta": [0.5]})["error"]) == ["OSError: the disk is full"]
    study_run(run)
    assert list(sweep({"beta": [0.5]})["status"]) == ["finished"]


def test_local_workers_keep_the_memory_that_the_next_step_needs(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # which a user may set
    with tasks._client({"workers": 1}, 1) as client:
        assert set(client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == {None}


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT for one thread on Windows")
def test_after_ctrl_c_the_table_has_what_was_finished(sweep, study_run, tmp_path):
    run, leave = STUDIES["gaussians"].run, threading.Event()
    begun = []

    def stop_in_the_second(config, **options):
        begun.append(config.beta)
        if len(begun) == 1:
            return run(config, **options)
        if len(begun) == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # wakes a waiting main thread too
            leave.wait(PATIENCE_S)
        raise RuntimeError("too late to be asked for")

    study_run(stop_in_the_second)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with SIGINT ignored
    try:
        table = sweep({"beta": [0.5, 1.0, 2.0]}, out=tmp_path / "sweep.csv")
    except KeyboardInterrupt:
        pytest.fail("the table is lost")
    finally:
        leave.set()
        signal.signal(signal.SIGINT, before)
    assert sorted(table["status"]) == ["failed", "failed", "finished"]
    finished = table[table["status"] == "finished"].iloc[0]
    assert finished["beta"] == begun[0]
    assert metrics_of(finished) == record_of(finished)["metrics"]
    assert set(table["error"]) == {"", sweeps.STOPPED}
    assert list(read_text(tmp_path / "sweep.csv")["status"]) == list(table["status"])


DYING_STUDY = """
import os
import time
from dataclasses import replace
from vae_helpers.experiments import STUDIES, gaussians

def run(config, *, seed, **options):
    if config.beta == 2 and seed == 0:
        time.sleep(2)  # a worker that dies as it starts is given up by dask
        os._exit(1)
    return gaussians.run(config, seed=seed, **options)

STUDIES["gaussians"] = replace(STUDIES["gaussians"], run=run)
"""


def test_the_command_on_processes_of_its_own_where_cells_fail_and_a_worker_dies(runs, tmp_path):
    """One run ends its worker, two fail, three are finished; the command names the three that are missing."""
    (tmp_path / "dying.py").write_text(DYING_STUDY)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(tmp_path / "dying.py"),
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",  # at the first death, to save time
    }
    words = ["sweep", "gaussians", "--grid", "beta=2,-1,1", f"steps={STEPS}", "--seeds", "0..1", "--workers", "1"]
    found = subprocess.run(
        [sys.executable, "-m", "vae_helpers", *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE_S,
    )
    assert found.returncode == 1, found.stderr
    assert found.stderr == ""
    table = read_text(runs / "gaussians" / "sweep.csv")
    assert list(table["beta"]) == ["2.0", "2.0", "-1.0", "-1.0", "1.0", "1.0"]
    assert list(table["seed"]) == ["0", "1"] * 3
    assert list(table["status"]) == ["failed", "finished", "failed", "failed", "finished", "finished"]
    values = []
    for seed in (0, 1):
        metrics = direct(seed)
        row = table.iloc[4 + seed]
        assert {name: float(row[name]) for name in metrics} == metrics
        values.append(metrics["test_elbo_bound"])
    lines = found.stdout.splitlines()
    spread = [f"{statistics.mean(values):.3f}", f"{statistics.stdev(values):.3f}", "2"]
    assert spread in [line.split()[-3:] for line in lines]
    assert f"3 of 6 runs finished; table: {runs / 'gaussians' / 'sweep.csv'}" in lines
    failed = [line for line in lines if line.startswith("failed: ")]
    assert failed == lines[-3:]
    assert failed[0].startswith(f"failed: beta=2.0, steps={STEPS}, seed=0: KilledWorker: ")
    for seed in (0, 1):
        expected = f"failed: beta=-1.0, steps={STEPS}, seed={seed}: ValueError: beta must be a finite number >= 0"
        assert failed[1 + seed].startswith(expected)


# what cannot be done


def test_a_table_that_cannot_be_written_is_said_before_any_run(sweep, runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write .*file"):
        sweep({}, out=tmp_path / "file" / "sweep.csv")
    with pytest.raises(ValueError, match="which is a folder"):
        sweep({}, out=tmp_path)
    assert not runs.exists()


@pytest.mark.parametrize(("workers", "n_cells", "expected"), [(2, 3, 2), (5, 3, 3), (1, 1, 1)])
def test_no_more_workers_than_cells(monkeypatch, workers, n_cells, expected):
    found = {}

    def cluster(**options):
        found.update(options)
        raise InterruptedError

    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    with pytest.raises(InterruptedError):
        sweeps.sweep("gaussians", {}, seeds=range(n_cells), workers=workers, progress=False)
    assert (found["n_workers"], found["threads_per_worker"]) == (expected, 1)


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("workers", [None, 0])
def test_short_runs_are_made_in_this_process_and_leave_no_trace_in_it(workers, runs):
    expected = direct(0)
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    grid = {"beta": [-1.0, 1.0], "steps": [STEPS]}
    table = sweeps.sweep("gaussians", grid, seeds=[0], workers=workers, progress=False)
    assert list(table["status"]) == ["failed", "finished"]
    assert table["error"][0].startswith("ValueError: beta must be a finite number >= 0")
    assert {name: table[name][1] for name in expected} == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("no_workers")
def test_ctrl_c_ends_a_sweep_in_this_process(monkeypatch):
    begun = []

    def stopped(name, values, **options):
        begun.append(values)
        return {"metrics": {}}  # what a run that was stopped by hand gives

    monkeypatch.setattr(tasks, "run_cell", stopped)
    table = sweeps.sweep("gaussians", {}, seeds=[0, 1], progress=False)
    assert len(begun) == 1
    assert list(table["error"]) == [sweeps.STOPPED] * 2


@pytest.mark.parametrize("text", ["0..99999999999999999999", "-99999999999999999999..0"])
def test_a_range_without_end_is_refused(text):
    with pytest.raises(ValueError, match="at most 10,000 runs; give fewer seeds"):
        grids.parse_seeds(text)


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("seed", [0.7, True, -1, 2**64, "0"])
def test_seeds_that_are_none_are_refused_before_a_run(seed, runs):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        sweeps.sweep("gaussians", {}, seeds=[seed], progress=False)
    assert not runs.exists()


def test_a_script_that_workers_would_run_again_is_told_so(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="__main__"):
        sweeps.sweep("gaussians", {}, seeds=[0], workers=1, progress=False)


def test_a_scheduler_that_does_not_answer(type_in, monkeypatch):
    monkeypatch.setattr(tasks, "CONNECT_S", 0.3)
    message = type_in("gaussians", "--scheduler", "tcp://127.0.0.1:1")
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in message
    assert "dask worker ADDRESS" in message


def test_a_scheduler_without_workers_is_waited_for_and_said(capsys):
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, **IN_THIS_PROCESS) as cluster:
        threading.Timer(1, cluster.scale, [1]).start()
        address = cluster.scheduler_address
        table = sweeps.sweep("gaussians", {"steps": [STEPS]}, seeds=[0], scheduler=address, progress=False)
    assert list(table["status"]) == ["finished"]
    assert f"the scheduler at {address} has no workers yet" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["", "host", "localhost:port", "tcp://", "http://127.0.0.1:80"])
def test_an_address_that_cannot_be_read(type_in, monkeypatch, address):
    def client(*arguments, **options):
        raise AssertionError("made a client, which would never connect and complain when it is collected")

    monkeypatch.setattr(distributed, "Client", client)
    message = type_in("gaussians", "--scheduler", address)
    assert f"no Dask scheduler answers at {address!r}" in message


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("gausians",), ("'gausians'", "gaussians, m1")),
        (("gausians", "--grid", "beta=1"), ("'gausians'", "gaussians, m1")),
        (("gaussians", "--grid", "bta=1"), ("'bta'", "h_dims", "beta")),
        (("gaussians", "--grid", "beta"), ("'beta'", "key=a,b,c")),
        (("gaussians", "--grid", "beta="), ("'beta'", "beta=a,b,c")),
        (("gaussians", "--grid", "beta=1", "beta=2"), ("'beta=2'", "once")),
        (("gaussians", "--grid", "h_dims=4", "h-dims=5"), ("'h-dims=5'", "once")),
        (("gaussians", "--grid", "beta=1,1.0"), ("smoke_seed=0", "twice")),
        (("gaussians", "--grid", "beta=1,two"), ("'two'", "beta", "float")),
        (("gaussians", "--grid", "z_dim=1.5"), ("'1.5'", "z_dim", "int")),
        (("gaussians", "--grid", "learned=perhaps"), ("'perhaps'", "learned", "bool")),
        (("gaussians", "--grid", "h_dims=300x"), ("'300x'", "h_dims", "int")),
        (("gaussians", "--grid", "model=vea"), ("'vea'", "model", "'vae'", "'autoencoder'")),
        (("m1", "--grid", "likelihood=normal"), ("'normal'", "likelihood", "gaussian_learned")),
        (("gaussians", "--grid", "lr=--help"), ("'--help'", "lr", "float")),
        (("gaussians", "--seeds", "4..0"), ("'4..0'",)),
        (("gaussians", "--seeds", "a"), ("'a'", "0..4")),
        (("gaussians", "--seeds", "1,1"), ("'1,1'", "twice")),
        (("gaussians", "--seeds", "0..2..4"), ("'0..2..4'", "0..4")),
        (("gaussians", "--seeds", "0,"), ("'0,'", "0,2,5")),
        (("gaussians", "--workers", "-2"), ("workers", "-2")),
        (("gaussians", "--workers", "2", "--scheduler", "tcp://host:8786"), ("2", "tcp://host:8786", "not both")),
    ],
    ids=lambda value: " ".join(value) if value[0] in STUDIES or value[0] == "gausians" else "",
)
def test_a_sweep_that_cannot_be_done_says_why_in_one_sentence(type_in, runs, words, expected):
    message = type_in(*words)
    for part in expected:
        assert part in message
    assert not runs.exists()


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize(
    ("grid", "seeds", "expected"),
    [
        ({"model": "vae"}, [0], "'vae'"),
        ({"beta": 0.5}, [0], "0.5"),
        ({"beta": []}, [0], r"'beta'.*\[\]"),
        ({"beta": [1, 1.0]}, [0], "twice"),
        ({}, [], "at least one seed"),
        ({}, [3, 3], "seed=3.*twice"),
        ({"bta": [1]}, [0], "'bta'"),
    ],
    ids=str,
)
def test_a_grid_that_is_none(grid, seeds, expected):
    with pytest.raises(ValueError, match=expected):
        sweeps.sweep("gaussians", grid, seeds=seeds, progress=False)


# texts and values


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("z_dim=1,2", [1, 2]),
        ("beta=0,0.5,1e-3", [0.0, 0.5, 0.001]),
        ("lr=-1", [-1.0]),
        ("learned=true,False", [True, False]),
        ("h_dims=300x300,10,()", [(300, 300), (10,), ()]),
        ("h-dims=4", [(4,)]),
        ("model=vae, autoencoder", ["vae", "autoencoder"]),
        ("beta=1,", [1.0]),
    ],
)
def test_values_have_the_type_of_their_setting(word, expected):
    ((key, values),) = grids.parse_grid("gaussians", [word]).items()
    assert key == word.partition("=")[0].replace("-", "_")
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]
    if key == "h_dims":
        assert all(type(width) is int for value in values for width in value)


@pytest.mark.parametrize(
    ("text", "expected"), [("0..4", [0, 1, 2, 3, 4]), ("3..3", [3]), ("0,2,5", [0, 2, 5]), ("7", [7]), ("5,1", [5, 1])]
)
def test_seeds(text, expected):
    assert grids.parse_seeds(text) == expected


def test_one_run_has_one_folder_however_its_values_are_kept():
    def made(grid, seeds=(0,)):
        return sweeps.cells("gaussians", grid, seeds=seeds, budget=Budget.SMOKE)

    typed = made(grids.parse_grid("gaussians", ["beta=1,2", "z_dim=2", "h_dims=4x3"]), [0, 1])
    assert made({"beta": [1, 2], "z_dim": [2], "h_dims": [[4, 3]]}, range(2)) == typed
    assert made({"beta": np.linspace(1, 2, 2), "z_dim": np.array([2]), "h_dims": [(4, 3)]}, np.arange(2)) == typed
    assert {type(cell.config.z_dim) for cell in made({"z_dim": np.array([2])})} == {int}
    assert {type(cell.seed) for cell in made({}, np.arange(2))} == {int}
    assert made({"learned": [True, False]})[0].config.learned is True


# the summary


TABLE = pd.DataFrame(
    {
        "beta": [2.0, 2.0, 2.0, 1.0, 1.0, 0.5],
        "model": ["vae", "vae", "vae", "vae", "vae", "vae"],
        "seed": [0, 1, 2, 0, 1, 0],
        "status": ["finished", "finished", "failed", "finished", "finished", "failed"],
        "test_kl": [1.0, 4.0, 100.0, 3.0, 3.0, 50.0],
    }
)


def test_mean_sd_and_n_of_the_finished_runs_by_hand():
    found = sweeps.summary(TABLE, "test_kl", by=["beta", "model"])
    assert list(found.index) == [(2.0, "vae"), (1.0, "vae")]
    assert found["mean"].tolist() == [2.5, 3.0]
    assert found["sd"].tolist() == pytest.approx([4.5**0.5, 0.0])
    assert found["n"].tolist() == [2, 2]


@pytest.mark.parametrize("metric", ["test_elbo", "model"])
def test_an_unknown_metric_lists_those_there_are(metric):
    with pytest.raises(KeyError, match=f"{metric}.*beta, seed, test_kl"):
        sweeps.summary(TABLE, metric, by=["beta"])
