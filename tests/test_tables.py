"""Released tables: what a sweep wrote, with the command that makes it again."""

import json
import math

import pandas as pd
import pytest

from vae_helpers.__main__ import main
from vae_helpers.experiments import STUDIES, released
from vae_helpers.experiments import grid as grids
from vae_helpers.experiments.tables import (
    load_curves,
    load_table,
    means,
    paired_difference,
    release_table,
    released_tables,
    sweep_command,
)


def rows(**changes):
    """Four finished runs of two settings and two seeds."""
    table = pd.DataFrame(
        {
            "study": "conditional",
            "x_var": [1.0, 1.0, 0.1, 0.1],
            "bf16": True,
            "seed": [0, 1, 0, 1],
            "budget": "full",
            "status": "finished",
            "test_kl": [1.0, 3.0, 10.123456789, 10.0],
            "seconds": 2.0,
            "folder": "/somewhere/runs",
            "error": "",
        }
    )
    return table.assign(**changes)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty folder instead of the package's released results."""
    monkeypatch.setattr(released, "FOLDER", tmp_path / "released")
    return tmp_path


def written(folder, table):
    path = folder / "sweep.csv"
    table.to_csv(path, index=False)
    return path


def test_a_released_table_has_the_runs_the_command_and_no_folder_of_a_machine(folder):
    path = release_table("conditional/toy", written(folder, rows()), note="a remark")
    found = load_table("conditional/toy")
    assert released_tables() == ["conditional/toy"]
    assert found["test_kl"].tolist() == [1.0, 3.0, 10.1235, 10.0]  # six digits
    assert found["seed"].tolist() == [0, 1, 0, 1]
    assert found.attrs["note"] == "a remark"
    assert found.attrs["command"] == (
        "python -m vae_helpers sweep conditional --budget full --seeds 0..1 --grid x_var=1.0,0.1 bf16=true"
    )
    assert "somewhere" not in path.read_text()


def test_the_command_of_a_table_is_understood_by_the_sweep(folder):
    release_table("conditional/toy", written(folder, rows(seed=[3, 5, 3, 5])))
    words = load_table("conditional/toy").attrs["command"].split()
    assert words[words.index("--seeds") + 1] == "3,5"
    grid = grids.parse_grid("conditional", words[words.index("--grid") + 1 :])
    assert grid == {"x_var": [1.0, 0.1], "bf16": [True]}


def test_rows_that_are_no_full_grid_are_refused(folder):
    with pytest.raises(ValueError, match="not all 4 combinations"):
        sweep_command(rows()[:3])
    with pytest.raises(ValueError, match="not all"):
        release_table("conditional/toy", written(folder, rows(seed=0)))


def test_a_table_with_failed_or_infinite_runs_is_refused(folder):
    with pytest.raises(ValueError, match="1 of 4 runs did not finish"):
        release_table("conditional/toy", written(folder, rows(status=["finished"] * 3 + ["failed"])))
    with pytest.raises(ValueError, match="not finite in test_kl"):
        release_table("conditional/toy", written(folder, rows(test_kl=[1.0, float("inf"), 2.0, 3.0])))
    assert released_tables() == []


def test_a_file_that_is_no_table_of_a_sweep_is_refused(folder):
    (folder / "other.csv").write_text("a,b\n1,2\n")
    for name in ("other.csv", "missing.csv"):
        with pytest.raises(ValueError, match=f"{name} is no table of a sweep"):
            release_table("conditional/toy", folder / name)


def test_a_hash_sign_in_a_value_is_no_remark(folder):
    release_table("conditional/toy", written(folder, rows(data="pictures #2")), note="a # remark")
    found = load_table("conditional/toy")
    assert set(found["data"]) == {"pictures #2"}
    assert found.attrs["note"] == "a # remark"


def test_a_table_without_a_finished_run_is_said_to_be_one(folder):
    table = rows(status="failed").drop(columns=["seconds", "test_kl"])
    with pytest.raises(ValueError, match="4 of 4 runs did not finish"):
        release_table("conditional/toy", written(folder, table))


def test_runs_without_evaluations_have_no_curves(folder):
    table = rows()
    record = {"study": "conditional", "config": {}, "seed": 0, "budget": "smoke", "data": "toy", "seconds": 1.0}
    (folder / "run.json").write_text(json.dumps(record | {"steps": 100, "metrics": {}}))
    with pytest.raises(ValueError, match="there are no curves; release the table alone"):
        release_table("conditional/toy", written(folder, table.assign(folder=str(folder))), curves=True)


def test_curves_are_released_with_their_settings(folder):
    table = rows()
    for i in range(4):
        run = folder / f"run{i}"
        run.mkdir()
        evals = [{"step": 50.0, "test_kl": 9.0 - i}, {"step": 100.0, "test_kl": 1.0 + i}]
        record = {"study": "conditional", "config": {}, "seed": i, "budget": "smoke", "data": "toy", "seconds": 1.0}
        rest = {"steps": 100, "metrics": {}, "history": {"rows": [], "evals": evals}}
        (run / "run.json").write_text(json.dumps(record | rest))
        table.loc[i, "folder"] = str(run)
    release_table("conditional/toy", written(folder, table), curves=True)
    assert released_tables() == ["conditional/toy"]
    curves = load_curves("conditional/toy")
    assert list(curves) == ["x_var", "bf16", "seed", "step", "test_kl"]
    assert curves.query("x_var == 0.1 and seed == 1")[["step", "test_kl"]].values.tolist() == [[50, 6.0], [100, 4.0]]
    assert "run0" not in (released.FOLDER / "conditional/toy.curves.csv").read_text()


def test_curves_without_their_folders_are_refused_and_nothing_is_released(folder):
    with pytest.raises(ValueError, match="run the sweep again"):
        release_table("conditional/toy", written(folder, rows()), curves=True)
    assert released_tables() == []
    release_table("conditional/toy", written(folder, rows()))
    with pytest.raises(KeyError, match="without its curves"):
        load_curves("conditional/toy")


def test_an_unknown_table_names_the_known_ones(folder):
    release_table("conditional/toy", written(folder, rows()))
    with pytest.raises(KeyError, match="conditional/toy"):
        load_table("conditional/other")


def test_means_have_spread_and_n():
    shown = means(rows(), {"test_kl": "KL, nats:.1f", "seconds": "s"}, by=["x_var"])
    assert shown.loc[1.0].to_dict() == {"KL, nats": "2.0 ± 1.4", "s": "2.00 ± 0.00", "n": 2}
    assert means(rows()[:1], {"test_kl": "KL"}, by=["x_var"]).loc[1.0, "KL"] == "1.00"  # one run has no spread
    missing = rows(test_kl=[float("nan")] * 2 + [1.0, 1.0])
    assert means(missing, {"test_kl": "KL"}, by=["x_var"])["KL"].tolist() == ["–", "1.00 ± 0.00"]


def test_the_command_line_releases_lists_and_shows_a_table(folder, monkeypatch, capsys):
    path = written(folder, rows())
    for words in (
        ["release", "conditional/toy", str(path), "--note", "a remark"],
        ["list"],
        ["show", "conditional/toy"],
    ):
        monkeypatch.setattr("sys.argv", ["vae_helpers", *words])
        main()
    out = capsys.readouterr().out
    assert "table of 4 runs" in out
    assert "a remark" in out
    assert "10.1235" in out


def test_every_released_table_belongs_to_a_study_and_tells_its_command(monkeypatch):
    monkeypatch.undo()
    assert released_tables()
    for name in released_tables():
        table = load_table(name)
        assert table["study"].unique().tolist() == [name.split("/")[0]]
        words = table.attrs["command"].split()
        assert words[3:5] == ["sweep", name.split("/")[0]]
        defaults = STUDIES[words[4]].config()
        if "--grid" in words:
            grid = grids.parse_grid(words[4], words[words.index("--grid") + 1 :])
            assert all(hasattr(defaults, key) for key in grid)
        assert (table["budget"] == "full").all()
        assert not any("+" in commit for commit in table["commit"])  # each run made by committed code


def test_all_that_is_released_stays_small(monkeypatch):
    monkeypatch.undo()
    sizes = [path.stat().st_size for path in released.FOLDER.glob("*/*")]
    assert len(sizes) > 10
    assert sum(sizes) < 40_000_000


def test_a_paired_difference_has_the_interval_of_student_over_the_seeds_in_common():
    arm = pd.Series([9.0, 4.0, 2.0, 0.0], index=[7, 2, 1, 0])  # seed 7 has no partner
    base = pd.Series([1.0, 1.0, 1.0, 5.0], index=[0, 1, 2, 3])  # differences -1, 1, 3: mean 1, sd 2
    found = paired_difference(arm, base)
    half = 4.302652730 * 2 / math.sqrt(3)  # t of two degrees of freedom
    assert found == pytest.approx((1, 1 - half, 1 + half))
    assert f"{found:+.1f}" == "+1.0 (-4.0 to +6.0)"
    assert f"{found}" == "+1.00 (-3.97 to +5.97)"
    assert found.in_words("+.1f") == "+1.0 (95 % interval -4.0 to +6.0)"


def test_no_interval_is_made_of_one_seed_or_of_two_settings_at_once():
    one, two = pd.Series([1.0, 2.0], index=[0, 1]), pd.Series([1.0, 2.0], index=[1, 2])
    with pytest.raises(ValueError, match=r"two seeds in common, found 1: \[1\]"):
        paired_difference(one, two)
    with pytest.raises(ValueError, match=r"twice in base: \[0, 0\]"):
        paired_difference(one, pd.Series([1.0, 2.0], index=[0, 0]))
