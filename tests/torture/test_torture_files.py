"""Malformed files: one sentence and a way out, or a right result; nothing executed, little memory and time."""

import functools
import hashlib
import json
import pickle
import random
import shutil
from pathlib import Path

import malformed
import pytest
from cases import train
from harness import How, copy, frugal, refused, run, succeeds

NOWHERE = Path("/nowhere")  # in place of a canary, for names only


def names(cases):
    return list(cases(NOWHERE))


def not_executed(folder):
    assert not list(folder.rglob(malformed.CANARY)), "the file was executed"
    assert not list(folder.parent.glob("escaped*")), "a file was written outside"


def judged(ended, folder, *named, right=()):
    """Refused with a sentence that names the file, or a result that is right: its output has one of the words."""
    not_executed(folder)
    if ended.code == 0:
        assert any(words in ended.output for words in right), f"accepted: {ended.output[-1500:]}"
        assert "Traceback" not in ended.output
        frugal(ended)
    else:
        refused(ended, *named)


@pytest.fixture(scope="session")
def right_images(tmp_path_factory):
    """What `data --check` says of the undamaged file, of each kind."""
    folder = tmp_path_factory.mktemp("right")

    @functools.cache
    def of(kind, labelled=False):
        x = malformed.images()
        content = {
            "npy": malformed.npy(x),
            "npz": malformed.npz({"images.npy": malformed.npy(x)}),
            "idx": malformed.idx(x.shape, x.tobytes()),
        }[kind]
        path = folder / {"npy": "right.npy", "npz": "right.npz", "idx": "right-images-idx3-ubyte"}[kind]
        path.write_bytes(content)
        ended = succeeds("data", path, "--check", folder=folder / kind)
        return next(line for line in ended.output.splitlines() if line.startswith("sha256"))

    return of


def array_case(kind, file, content, folder, right):
    path = folder / file
    path.write_bytes(content)
    judged(run("data", path, "--check", folder=folder / "work"), folder, file, right=right)


@pytest.mark.parametrize("name", names(malformed.npy_cases))
def test_npy(name, tmp_path, right_images):
    """.npy: headers, types, sizes, pickles, values"""
    content = malformed.content_of(malformed.npy_cases, name, tmp_path / malformed.CANARY)
    right = [right_images("npy")]
    if name == "an archive":
        right = [right_images("npz")]
    elif name.startswith("bit"):  # another shape that is as large, or white space in the head
        right = ["images 28x28", "images 2"]
    array_case("npy", "bad.npy", content, tmp_path, right)


@pytest.mark.parametrize("name", names(malformed.npz_cases))
def test_npz(name, tmp_path, right_images):
    """.npz: archives, bombs, names that climb out, declared terabytes, pickles, labels"""
    content = malformed.content_of(malformed.npz_cases, name, tmp_path / malformed.CANARY)
    right = [right_images("npz")]
    if (
        name.startswith("labels: ")
        or "bit" in name
        or name in ("climbing images", "one array", "a gz file", "bomb of 300 MB", "climbing names")
    ):
        right = ["images 28x28"]
    array_case("npz", "bad.npz", content, tmp_path, right)


@pytest.mark.parametrize("name", names(malformed.idx_cases))
def test_idx(name, tmp_path, right_images):
    """idx: magic numbers, sizes, cuts"""
    content = malformed.content_of(malformed.idx_cases, name, tmp_path / malformed.CANARY)
    array_case("idx", "bad-images-idx3-ubyte", content, tmp_path, [right_images("idx")])


@pytest.mark.parametrize("name", names(malformed.gz_cases))
def test_gz(name, tmp_path, right_images):
    """idx in gzip: cuts, bits, bombs"""
    content = malformed.content_of(malformed.gz_cases, name, tmp_path / malformed.CANARY)
    array_case("idx", "bad-images-idx3-ubyte.gz", content, tmp_path, [right_images("idx")])


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("name", [*names(malformed.idx_cases)[:8], "no byte", "text", "terabytes", "noise"])
def test_mnist(name, file, tmp_path):
    """MNIST's own files: size, magic number, hash"""
    raw = tmp_path / "work" / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for other in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                  "t10k-labels-idx1-ubyte"):  # fmt: skip
        (raw / other).write_bytes(malformed.content_of(malformed.idx_cases, name, NOWHERE))
    judged(run("data", "mnist", folder=tmp_path / "work"), tmp_path, "ubyte")


@pytest.mark.parametrize("name", names(malformed.npz_cases))
def test_frey(name, tmp_path):
    """the archive of the Frey faces"""
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    (data / "frey_faces.npz").write_bytes(malformed.content_of(malformed.npz_cases, name, tmp_path / malformed.CANARY))
    judged(run("data", "frey", folder=tmp_path / "work"), tmp_path, "frey_faces.npz")


@pytest.mark.parametrize("name", names(malformed.npz_cases)[:30:2] + names(malformed.npz_cases)[30::5])
def test_dsprites(name, tmp_path):
    """the archive of dSprites"""
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    for file in ("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",):
        (data / file).write_bytes(malformed.content_of(malformed.npz_cases, name, tmp_path / malformed.CANARY))
    judged(run("data", "dsprites", "--official", folder=tmp_path / "work"), tmp_path, "dsprites_ndarray")


@pytest.mark.parametrize("name", list(malformed.picture_cases(NOWHERE)))
def test_pictures(name, tmp_path):
    """pictures: cuts, bits, bombs, other kinds of file under a picture's name"""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(5):
        Image.new("RGB", (16, 16), (k, 60, 60)).save(folder / f"{k}.png")
    file, content = malformed.picture_cases(tmp_path / malformed.CANARY)[name]
    (folder / file).write_bytes(content)
    spy = tmp_path / "bin"  # whatever Pillow would start
    spy.mkdir()
    for program in ("gs", "gswin32c", "ghostscript", "rsvg-convert"):
        (spy / program).write_text(f"#!/bin/sh\ntouch {tmp_path / malformed.CANARY}\n")
        (spy / program).chmod(0o755)
    import os

    environment = {"PATH": f"{spy}{os.pathsep}{os.environ['PATH']}"}
    ended = run("data", folder, "--check", folder=tmp_path / "work", environment=environment)
    # a changed bit of a pixel, or a cut after the last one, leaves a picture
    right = ["5 train and 1 test"] if "bit" in name or "cut" in name or " named ." in name else []
    judged(ended, tmp_path, file, right=right)


@pytest.fixture(scope="session")
def finished(digits, tmp_path_factory):
    """A finished run, its released card and weights, and the table of a sweep."""
    folder = tmp_path_factory.mktemp("finished")
    succeeds(*train("m1", digits, folder / "run", "--seed", 0), folder=folder)
    succeeds("release", "study/name", "run", "--to", "released", folder=folder)
    return folder


CARD = [("config",), ("config", "z_dim"), ("config", "h_dims"), ("config", "data"), ("seeds",), ("budget",),
        ("metrics",), ("metrics", "test_elbo_bound"), ("steps",), ("study",), ("weights_sha256",), ("seconds",),
        ("data_sha256",)]  # fmt: skip
RECORD = [("config",), ("config", "z_dim"), ("config", "steps"), ("metrics",), ("metrics", "test_elbo_bound"),
          ("steps",), ("study",), ("seed",), ("budget",), ("history",), ("seconds",), ("data_sha256",)]  # fmt: skip
TEXTS = 19  # cases of `json_cases` that change the text, not a value
PLACES = 8


def json_names(paths):
    good = {}
    for path in paths:
        place = good
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(place.get(key, {}), dict) else place
        place.setdefault(path[-1], {} if any(len(p) > len(path) and p[: len(path)] == path for p in paths) else 0)
    return list(malformed.json_cases(good, paths=paths))


@pytest.mark.parametrize("command", ["show", "page", "list"])
@pytest.mark.parametrize("name", json_names(CARD))
def test_cards(name, command, finished, tmp_path):
    """released cards: text, types, missing keys, NaN, depth"""
    released = copy(finished / "released", tmp_path / "released")
    card = json.loads((released / "study" / "name.json").read_text())
    (released / "study" / "name.json").write_bytes(malformed.json_cases(card, paths=CARD)[name])
    words = {"show": ("show", "study/name"), "page": ("page", "study/name", "--out", "p.html"), "list": ("list",)}
    ended = run(*words[command], folder=tmp_path / "work", environment={"VAE_RELEASED": str(released)})
    harmless = {"show": ["z_dim", "command"], "page": [" MB; open it"], "list": ["study/name"]}[command]
    # what a command does not use may be anything; a model whose shape does not fit its weights is never shown
    used = {"show": HARMFUL_TO_SHOW, "page": HARMFUL_TO_RUN, "list": HARMFUL_TO_LIST}[command]
    named = ("study/name", "name.json", "name.safetensors", "unknown data 'many'")
    judged(ended, tmp_path, *named, right=[] if any(map(name.startswith, used)) else harmless)


HARMFUL_TO_SHOW = ("metrics: null", "metrics.test_elbo_bound: nan", "metrics.test_elbo_bound: word", "seeds: missing",
                   "cut", "budget: missing", "steps: word", "null", "a list", "deep")  # fmt: skip
HARMFUL_TO_RUN = ("config.z_dim: word", "config.z_dim: large", "study: word", "weights_sha256: word", "cut", "deep")
HARMFUL_TO_LIST: tuple[str, ...] = ()


@pytest.mark.parametrize("name", list(malformed.weights_cases(malformed.safetensors_file(
    {"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)))))  # fmt: skip
@pytest.mark.parametrize("whose", ["released", "own"])
def test_weights(name, whose, finished, tmp_path):
    """weights: headers, types, offsets, shapes; with the right hash in the card"""
    if whose == "released":
        folder = copy(finished / "released", tmp_path / "released") / "study"
        path, words = folder / "name.safetensors", ("page", "study/name", "--out", "p.html")
    else:
        folder = copy(finished / "run", tmp_path / "run")
        path, words = folder / "weights.safetensors", ("page", folder, "--out", "p.html")
    content = malformed.weights_cases(path.read_bytes())[name]
    path.write_bytes(content)
    if whose == "released":
        card = json.loads((folder / "name.json").read_text())
        card["weights_sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "name.json").write_text(json.dumps(card))
    ended = run(*words, folder=tmp_path / "work", environment={"VAE_RELEASED": str(tmp_path / "released")})
    judged(ended, tmp_path, path.name, "study/name")


@pytest.mark.parametrize("command", ["show", "release", "measure", "train"])
@pytest.mark.parametrize("name", json_names(RECORD))
def test_records(name, command, finished, digits, tmp_path):
    """run.json: text, types, missing keys, NaN, depth"""
    folder = copy(finished / "run", tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_bytes(malformed.json_cases(record, paths=RECORD)[name])
    words = {
        "show": ("show", folder),
        "release": ("release", "study/other", folder, "--to", tmp_path / "to"),
        "measure": ("measure", folder),
        "train": train("m1", digits, folder),
    }[command]
    # training goes on from its checkpoint, and measuring makes the record anew; what is not used may be anything
    right = {"show": ["z_dim", "metrics", "study"], "release": ["other.json"], "measure": ["test_elbo"],
             "train": ["test_elbo"]}[command]  # fmt: skip
    judged(run(*words, folder=tmp_path / "work"), tmp_path, "run.json", str(folder), right=right)
    if command == "release" and (made := tmp_path / "to" / "study" / "other.json").exists():
        assert "NaN" not in made.read_text(), "a number that is none was released"


@pytest.mark.parametrize("number", range(60))
def test_checkpoint_bits(number, finished, digits, tmp_path):
    """checkpoints: one bit changed"""
    folder = copy(finished / "run", tmp_path / "run")
    (folder / "run.json").unlink()
    path = folder / "checkpoint.pt"
    path.write_bytes(malformed.flip(path.read_bytes(), random.Random(number)))
    ended = run(*train("m1", digits, folder, "--steps", 500), folder=tmp_path / "work")
    judged(ended, tmp_path, "checkpoint.pt")


def checkpoints(content, canary):
    """Contents with the right hash that are no checkpoints, and some with a wrong one."""
    import io

    import torch

    def saved(value):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()

    state = torch.load(io.BytesIO(content[32:]), weights_only=True)
    with_hash = {
        "nothing": b"",
        "a pickle that runs a command": pickle.dumps(malformed.Commands(canary)),
        "torch's pickle that runs a command": saved({"format": 1, "x": malformed.Commands(canary)}),
        "a list": saved([1, 2]),
        "another format": saved({**state, "format": 99}),
        "keys missing": saved({"format": 1}),
        **{f"{key}: missing": saved({k: v for k, v in state.items() if k != key}) for key in state if key != "data"},
        **{f"{key}: a word": saved({**state, key: "word"}) for key in state},
        **{f"{key}: none": saved({**state, key: None}) for key in state if key != "data"},
    }
    found = {name: hashlib.sha256(value).digest() + value for name, value in with_hash.items()}
    rng = random.Random(9)
    return found | {f"cut {k}": malformed.cut(content, rng) for k in range(10)} | {"no byte": b"", "noise": bytes(900)}


KEYS = ("model", "optimizer", "step", "history", "config", "shapes", "format", "data", "rng", "batches")


@pytest.fixture(scope="session")
def bad_checkpoints(finished):
    return functools.cache(lambda canary: checkpoints((finished / "run" / "checkpoint.pt").read_bytes(), canary))


@pytest.mark.parametrize("number", range(60))
def test_checkpoints(number, finished, bad_checkpoints, digits, tmp_path):
    """checkpoints: cuts, pickles, other content with the right hash"""
    cases = bad_checkpoints(finished / malformed.CANARY)
    if number >= len(cases):
        pytest.skip("no such case")
    name = list(cases)[number]
    print(name)
    folder = copy(finished / "run", tmp_path / "run")
    (folder / "run.json").unlink()
    (folder / "checkpoint.pt").write_bytes(cases[name])
    ended = run(*train("m1", digits, folder, "--steps", 500), folder=tmp_path / "work")
    not_executed(finished)
    # a checkpoint without a key that is not needed goes on
    judged(ended, tmp_path, "checkpoint.pt", right=["test_elbo"] if name in ("data: a word",) else [])


@pytest.mark.parametrize("command", ["show", "release"])
@pytest.mark.parametrize("name", list(malformed.table_cases("a,b\n1,2\n")))
def test_tables(name, command, tmp_path):
    """CSV tables, released and of a sweep"""
    import vae_helpers.experiments.released as released

    source = next((released.FOLDER / "m1").glob("*.csv"), None) or next(released.FOLDER.glob("*/*.csv"))
    text = source.read_text()
    path = tmp_path / "released" / "study" / "table.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(malformed.table_cases(text)[name])
    words = ("show", "study/table") if command == "show" else ("release", "study/other", path, "--to", tmp_path / "to")
    ended = run(*words, folder=tmp_path / "work", environment={"VAE_RELEASED": str(tmp_path / "released")})
    judged(ended, tmp_path, "table.csv", "study/table")


@pytest.mark.parametrize("name", json_names([("labelled",), ("labels_sha256",), ("n_examples",), ("n_classes",)]))
def test_label_splits(name, digits, tmp_path):
    """label splits"""
    paths = [("labelled",), ("labels_sha256",), ("n_examples",), ("n_classes",)]
    run(*train("m2", digits, tmp_path / "run", "--steps", 1), folder=tmp_path / "work")
    good = json.loads((tmp_path / "run" / "split.json").read_text())
    path = tmp_path / "bad.json"
    path.write_bytes(malformed.json_cases(good, paths=paths)[name])
    words = train("m2", digits, tmp_path / "new", "--steps", 1, "--split-file", path)
    judged(run(*words, folder=tmp_path / "work"), tmp_path, "bad.json")


@pytest.mark.parametrize("name", list(malformed.plan_cases()))
def test_plans(name, tmp_path):
    """TOML plans"""
    path = tmp_path / "plan.toml"
    path.write_bytes(malformed.plan_cases()[name])
    judged(run("sweep", "--plan", path, "--workers", 1, folder=tmp_path / "work"), tmp_path, "plan.toml")


@pytest.mark.parametrize("what", ["data", "runs", "out", "tensorboard", "page", "plan", "to", "run folder", "VAE_DATA",
                                  "released"])  # fmt: skip
def test_files_where_folders_should_be(what, digits, finished, tmp_path):
    """files in the place of folders, and folders in the place of files"""
    file, folder = tmp_path / "a-file", tmp_path / "a-folder.html"
    file.write_text("hello")
    folder.mkdir()
    shutil.copy(digits, tmp_path / "d.npz")
    gaussians = ("train", "gaussians", "--steps", 10)
    words, environment = {
        "data": (("data", file), {}),
        "runs": (gaussians, {"VAE_RUNS": str(file)}),
        "out": ((*gaussians, "--out", file), {}),
        "tensorboard": ((*gaussians, "--tensorboard", file), {}),
        "page": (("page", finished / "run", "--out", folder), {}),
        "plan": (("sweep", "--plan", folder), {}),
        "to": (("release", "study/name", finished / "run", "--to", file), {}),
        "run folder": (("show", file), {}),
        "VAE_DATA": (("data", "mnist"), {"VAE_DATA": str(file)}),
        "released": (("page", "study/name", "--out", "p.html"), {"VAE_RELEASED": str(file)}),
    }[what]
    judged(run(*words, folder=tmp_path / "work", environment=environment, how=How()), tmp_path, "a-f", "study/name")
