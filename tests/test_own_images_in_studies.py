"""Own images through every study by the command line: formats, shapes, bad input, and what a record says of them."""

import gzip
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vae_helpers.__main__ import main

K = 3


def shapes(n, height, width, colours, seed=0):
    """Bright discs, bars and frames on dark noise, (n, H, W) or (n, H, W, 3) uint8, and their kinds."""
    draw, y = np.random.default_rng(seed), np.arange(n) % K
    x = draw.integers(0, 40, (n, height, width, colours), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width]
    middle = np.hypot(rows - height / 2, columns - width / 2)
    masks = (middle < min(height, width) / 4, abs(rows - height / 2) < height / 8, abs(columns - width / 2) > width / 4)
    for i, kind in enumerate(y):
        x[i][masks[kind]] = draw.integers(150, 256, colours, dtype=np.uint8)
    return (x[..., 0] if colours == 1 else x), y


def write_folder(folder, x, y):
    for i, (picture, kind) in enumerate(zip(x, y, strict=True)):
        place = folder / ("disc", "bar", "frame")[kind]
        place.mkdir(parents=True, exist_ok=True)
        kinds = ("png", "bmp", "tif") if picture.ndim == 2 else ("png", "bmp", "webp")  # WebP knows no grey
        Image.fromarray(picture).save(place / f"{kind}{i:03d}.{kinds[i % 3]}", lossless=True)


def idx(path, array):
    head = struct.pack(">i", 0x800 + array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(head + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("my data ä")  # a space and a letter beyond ASCII
    x, y = shapes(90, 33, 29, 1)
    write_folder(root / "grey", x, y)
    write_folder(root / "colour", *shapes(90, 36, 40, 3))
    np.save(root / "grey.npy", x)
    np.savez(root / "grey.npz", images=x, labels=y)
    colour, _ = shapes(90, 32, 32, 3)
    np.savez(root / "colour.npz", images=np.moveaxis(colour, -1, 1) / np.float32(255), labels=y)
    (root / "idx").mkdir()
    idx(root / "idx" / "train-images-idx3-ubyte.gz", x[:60])
    idx(root / "idx" / "train-labels-idx1-ubyte.gz", y[:60])
    idx(root / "idx" / "t10k-images-idx3-ubyte.gz", x[60:])
    idx(root / "idx" / "t10k-labels-idx1-ubyte.gz", y[60:])
    return root


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Type a command; its exit code and everything that was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_BUDGET", "smoke")
    monkeypatch.setenv("VAE_OFFLINE", "1")
    monkeypatch.setenv("VAE_DEVICE", "cpu")
    monkeypatch.delenv("VAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["vae_helpers", *map(str, words)])
        code, last = 0, ""
        try:
            main()
        except SystemExit as stop:
            code, last = (1, stop.code) if isinstance(stop.code, str) else (stop.code or 0, "")
        said = capsys.readouterr()
        return code, said.out + said.err + last

    return type_in


SMALL = {
    "m1": ["--h-dims", "8", "--batch-size", "16", "--steps", "3"],
    "nonsyn": ["--batch-size", "8", "--steps", "2", "--z-dim", "3"],
    "m2": ["--h-dims", "8", "--batch-size", "16", "--steps", "3", "--n-labels", "6"],
    "gmvae": ["--h-dims", "8", "--batch-size", "16", "--steps", "3", "--views", "moved", "--n-components", "3"],
    "conditional": ["--batch-size", "16", "--steps", "2", "--z-dim", "3"],
    "judge": ["--batch-size", "16", "--steps", "2"],
}
LABELLED = ("grey", "colour", "grey.npz", "colour.npz", "idx")
UNLABELLED = [(study, "grey.npy") for study in ("m1", "nonsyn", "gmvae")]
CASES = [*((study, name) for study in SMALL for name in LABELLED), *UNLABELLED]


@pytest.mark.parametrize(("study", "name"), CASES)
def test_every_study_trains_on_every_format(run, data, tmp_path, study, name):
    code, said = run("train", study, "--data", data / name, *SMALL[study], "--out", tmp_path / "run")
    assert code == 0, said
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    side = {"colour": "36x40", "colour.npz": "32x32"}.get(name, "33x29")
    assert record["config"]["size"] == side
    assert record["config"]["channels"] == (3 if name.startswith("colour") else 1)
    assert record["config"]["n_classes"] == (0 if name == "grey.npy" else K)
    assert len(record["data_sha256"]) == 64
    assert all(np.isfinite(value) for value in record["metrics"].values())
    if name in ("grey", "colour"):
        assert "bar, disc, frame" in record["data"]
    if study == "conditional":
        assert record["metrics"]["judge_accuracy_percent"] >= 0  # a judge of these images, not of digits
        assert "judge_accuracy_percent" in said


def test_the_same_images_in_every_format_have_one_fingerprint_and_one_result(run, data, tmp_path):
    x, y = shapes(90, 33, 29, 1)
    np.savez(tmp_path / "split.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    for part, rows in (("train", slice(0, 60)), ("test", slice(60, 90))):
        for i, (picture, kind) in enumerate(zip(x[rows], y[rows], strict=True)):
            folder = tmp_path / "folder" / part / str(kind)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{i}.png")
    results = []
    for number, path in enumerate((data / "idx", tmp_path / "split.npz", tmp_path / "folder")):
        code, said = run("train", "m1", "--data", path, *SMALL["m1"], "--out", tmp_path / str(number))
        assert code == 0, said
        record = json.loads((tmp_path / str(number) / "run.json").read_text())
        results.append((record["data_sha256"], record["metrics"]))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("likelihood", ["gaussian_learned", "discretised_logistic", "continuous_bernoulli"])
@pytest.mark.parametrize("study", ["m1", "m2", "gmvae", "conditional", "nonsyn"])
def test_likelihoods_of_grey_levels_reach_every_study_in_colour(run, data, tmp_path, study, likelihood):
    words = [word for word in SMALL[study] if word not in ("--views", "moved")]
    words += ["--likelihood", likelihood, *(["--pixels", "grey"] if study in ("m1", "m2", "gmvae") else [])]
    words += ["--no-thorough"] if study == "conditional" else []
    code, said = run("train", study, "--data", data / "colour", *words, "--out", tmp_path / "run")
    assert code == 0, said
    assert all(np.isfinite(v) for v in json.loads((tmp_path / "run" / "run.json").read_text())["metrics"].values())


def test_m2_takes_the_features_of_an_m1_of_the_same_images(run, data, tmp_path):
    code, said = run("train", "m1", "--data", data / "grey", *SMALL["m1"], "--z-dim", "4", "--out", tmp_path / "m1")
    assert code == 0, said
    for model in ("m1_m2", "m1_svm"):
        words = ["--model", model, "--m1", tmp_path / "m1", "--n-labels", "15"]
        code, said = run("train", "m2", "--data", data / "grey", *SMALL["m2"], *words, "--out", tmp_path / model)
        assert code == 0, said
    words = ["--model", "m1_m2", "--m1", tmp_path / "m1", "--out", tmp_path / "other"]
    code, said = run("train", "m2", "--data", data / "colour", *SMALL["m2"], *words)
    assert code == 1
    assert "is no VAE of these images, 4320 pixels each" in said


@pytest.mark.parametrize("study", ["m2", "conditional", "judge"])
def test_images_without_labels_are_one_sentence_where_labels_are_needed(run, data, study):
    code, said = run("train", study, "--data", data / "grey.npy", *SMALL[study])
    assert code == 1
    assert "needs images with labels of two classes or more" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "no-such-set"], "unknown data 'no-such-set'"),
        (["--data", "./gone"], "gone does not exist"),
        (["--data", "GREY", "--size", "12"], "size must be HxW, such as 28x28, got '12'"),
        (["--data", "GREY", "--channels", "2"], "channels"),
        (["--data", "GREY", "--test-share", "1.5"], "test_share"),
        (["--data", "mnist", "--n-classes", "7"], "n_classes is 7 in the settings, but 10 in the images"),
        (["--data", "GREY", "--batch-size", "1000"], "batch_size must be between 1 and"),
        (["--data", "dsprites"], "load_dsprites"),
    ],
)
def test_bad_settings_of_the_data_are_one_sentence_and_leave_no_run(run, data, tmp_path, words, message):
    words = [str(data / "grey") if word == "GREY" else word for word in words]
    code, said = run("train", "m1", *words, "--out", tmp_path / "run")
    assert code == 1, said
    assert message in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_a_size_and_grey_levels_are_settings_that_a_resumed_run_keeps(run, data, tmp_path):
    words = ["train", "m1", "--data", data / "colour", "--size", "20x24", "--channels", "1", *SMALL["m1"]]
    code, said = run(*words, "--out", tmp_path / "run")
    assert code == 0, said
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (config["size"], config["channels"]) == ("20x24", 1)
    words[words.index("20x24")] = "24x20"
    code, said = run(*words, "--out", tmp_path / "run", "--resume")
    assert code == 1
    assert "on other data" in said


def test_a_run_on_changed_pictures_is_not_gone_on_with(run, tmp_path):
    write_folder(tmp_path / "mine", *shapes(60, 12, 12, 1))
    words = ["train", "m1", "--data", tmp_path / "mine", *SMALL["m1"], "--out", tmp_path / "run"]
    assert run(*words)[0] == 0
    Image.fromarray(shapes(1, 12, 12, 1, seed=9)[0][0]).save(tmp_path / "mine" / "disc" / "0000.png")
    code, said = run(*words, "--resume")
    assert code == 1
    assert "on other data" in said


def test_a_training_on_ones_own_colours_can_be_watched(run, data, tmp_path):
    words = ["--tensorboard", tmp_path / "events", "--eval-every", "1", "--out", tmp_path / "run"]
    code, said = run("train", "nonsyn", "--data", data / "colour", *SMALL["nonsyn"], *words)
    assert code == 0, said
    (events,) = (tmp_path / "events").glob("events.*")
    assert b"picture" in events.read_bytes()


def test_the_data_command_says_what_a_folder_holds(run, data):
    code, said = run("data", data / "colour", "--check")
    assert code == 0, said
    for words in ("90", "3x36x40", "3 classes: bar, disc, frame", "sha256 of the content: ", "train: ", "per class"):
        assert words in said


def test_a_reader_that_has_had_enough_gets_no_traceback():
    command = f"{sys.executable} -m vae_helpers list | head -2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ)
    assert done.stdout.startswith("Studies")
    assert done.stderr == ""
