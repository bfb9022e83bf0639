"""The drawn dSprites: facts of the genuine ones, and the official file behind the same interface."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_helpers.data import DataError, FactorGrid, load_dsprites
from vae_helpers.data import dsprites as d
from vae_helpers.data.packed import stored, unpack

SIDES = (10, 12, 14, 16, 18, 20)  # of an upright square centred between pixels, by scale


def classes(*, shape=0, scale=5, orientation=0, x=0, y=0):
    columns = torch.broadcast_tensors(*(torch.as_tensor(v) for v in (0, shape, scale, orientation, x, y)))
    return torch.stack([column.reshape(-1) for column in columns], dim=1)


def moments(images):
    """Centre (x, y) and covariance of the lit pixels; (N, 64, 64) -> (N, 2), (N, 2, 2)."""
    centres = torch.arange(64) + 0.5
    at = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(-1, 2)
    weights = images.flatten(1).float()
    weights = weights / weights.sum(1, keepdim=True)
    mean = weights @ at
    away = at[None] - mean[:, None]
    return mean, torch.einsum("np,npi,npj->nij", weights, away, away)


# ---- facts


def test_the_contract():
    images = d.render(classes(shape=torch.arange(3)))
    assert images.shape == (3, 64, 64)
    assert images.dtype == torch.uint8
    assert images.unique().tolist() == [0, 1]
    assert d.render(torch.empty(0, 6, dtype=torch.int64)).shape == (0, 64, 64)
    assert d.GRID.n_images == 737_280


@pytest.mark.parametrize("scale", range(6))
def test_an_upright_square_has_the_area_and_box_of_the_genuine_one(scale):
    image = d.render(classes(scale=scale))[0]
    assert image.sum() == SIDES[scale] ** 2
    lit = image.nonzero()
    half = SIDES[scale] // 2
    assert lit.amin(0).tolist() == [16 - half] * 2
    assert lit.amax(0).tolist() == [15 + half] * 2


@pytest.mark.parametrize(("shape", "expected"), [(0, 19.2**2), (1, math.pi * 12.8 * 7.2), (2, 225.0)])
def test_areas_go_with_the_square_of_the_scale_and_hold_under_rotation(shape, expected):
    for scale in range(6):
        size = 0.5 + 0.1 * scale
        areas = d.render(classes(shape=shape, scale=scale, orientation=torch.arange(40))).flatten(1).sum(1).double()
        assert abs(areas.mean().item() - expected * size**2) < 0.01 * expected + 1
        assert areas.max() - areas.min() < 0.12 * expected * size**2 + 8


def test_the_last_orientation_is_the_first():
    n = 300
    generator = torch.Generator().manual_seed(0)
    first = d.GRID.sample(n, generator=generator)
    first[:, 3] = 0
    last = first.clone()
    last[:, 3] = 39
    assert torch.equal(d.render(first), d.render(last))
    other = first.clone()
    other[:, 3] = 20
    assert (d.render(first) != d.render(other)).flatten(1).any(1).float().mean() > 0.9


@pytest.mark.parametrize("shape", range(3))
def test_positions_run_from_16_to_48_in_pixels(shape):
    ends = d.render(classes(shape=shape, orientation=7, x=torch.tensor([0, 31, 0]), y=torch.tensor([0, 0, 31])))
    assert torch.equal(ends[1], ends[0].roll(32, dims=1))
    assert torch.equal(ends[2], ends[0].roll(32, dims=0))
    mean, _ = moments(d.render(classes(shape=shape, x=torch.arange(32), y=5)))
    steps = mean[:, 0].diff()
    assert abs(steps.mean().item() - 32 / 31) < 1e-2
    assert (mean[:, 1] - mean[0, 1]).abs().max() < 0.5


@pytest.mark.parametrize("shape", range(3))
def test_upright_shapes_are_their_own_mirror_images(shape):
    images = d.render(classes(shape=shape, scale=torch.arange(6)))[:, :, :32]
    assert torch.equal(images, images.flip(2))


def test_square_and_ellipse_are_upside_down_alike_and_the_heart_is_not():
    square, ellipse, heart = d.render(classes(shape=torch.arange(3)))[:, :32]
    assert torch.equal(square, square.flip(0))
    assert torch.equal(ellipse, ellipse.flip(0))
    assert not torch.equal(heart, heart.flip(0))


def test_orientation_turns_against_the_clock_on_the_screen():
    orientation = torch.arange(20)
    _, covariance = moments(d.render(classes(shape=1, orientation=orientation)))
    angle = torch.atan2(2 * covariance[:, 0, 1], covariance[:, 0, 0] - covariance[:, 1, 1]) / 2  # of the long axis
    expected = -2 * math.pi * orientation / 39  # y down
    off = (angle - expected + math.pi / 2) % math.pi - math.pi / 2
    assert off.abs().max() < 0.03


def test_the_heart_points_down():
    image = d.render(classes(shape=2))[0, :32, :32]
    rows = image.sum(1)
    lit = rows.nonzero()[:, 0]
    assert rows[lit[-1]] <= 2 < 8 < rows[lit[0] + 2]  # a tip below, two lobes above
    assert image[lit[0], 15] == 0
    assert image[lit[0], :16].sum() > 0


@pytest.mark.parametrize("source", ["frames", "official"])
def test_drawn_images_are_the_genuine_ones_to_a_pixel(source):
    root = Path(os.environ.get("VAE_DATA") or "/nonexistent")
    if source == "frames":
        if not (root / "dsprites_frames.npz").exists():
            pytest.skip("VAE_DATA has no dsprites_frames.npz, genuine frames to compare with")
        found = d.wrong_pixels(*d.load_frames(root / "dsprites_frames.npz"))
        found = {name: wrong[1::2] for name, wrong in found.items()}  # the fit has seen the others
    else:
        if not (root / d.PACKED).exists():
            pytest.skip(f"VAE_DATA has no {d.PACKED}, which the official file is unpacked to")
        chosen = d.GRID.sample(3000, generator=torch.Generator().manual_seed(0))
        genuine = load_dsprites("official", root=root).render(chosen).view(-1, 64, 64)
        found = d.wrong_pixels(genuine, chosen)
    means = {name: wrong.double().mean().item() for name, wrong in found.items()}
    assert means["square"] <= 0.5
    assert means["ellipse"] <= 1
    assert means["heart"] <= 1


def test_wrong_pixels_are_counted_by_shape():
    chosen = classes(shape=torch.tensor([0, 1, 1, 2]))
    images = d.render(chosen)
    images[0, :2, 0] = 1
    images[3] = 1 - images[3]
    found = d.wrong_pixels(images, chosen)
    assert found["square"].tolist() == [2]
    assert found["ellipse"].tolist() == [0, 0]
    assert found["heart"].tolist() == [4096]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_kind_of_integer_draws_the_same_picture(dtype):
    chosen = d.GRID.sample(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(d.render(chosen.to(dtype)), d.render(chosen))
    assert torch.equal(load_dsprites().pixels(chosen.to(dtype)), load_dsprites().pixels(chosen))


# ---- errors


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.tensor([[0, 3, 0, 0, 0, 0]]), r"shape has the values 0\.\.2, found 3"),
        (torch.tensor([[0, 0, 0, 40, 0, 0]]), r"orientation has the values 0\.\.39, found 40"),
        (torch.tensor([[0, 0, 0, 0, -1, 0]]), r"x has the values 0\.\.31, found -1"),
        (torch.tensor([[1, 0, 0, 0, 0, 0]]), r"colour has the values 0\.\.0, found 1"),
        (torch.zeros(2, 5, dtype=torch.int64), r"shape \(N, 6\).*got torch.int64 \(2, 5\)"),
        (torch.zeros(2, 6), r"integers.*got torch.float32"),
        (torch.zeros(2, 6, dtype=torch.bool), r"integers.*got torch.bool"),
    ],
)
def test_bad_classes_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        d.render(bad)
    with pytest.raises(ValueError, match=message):
        load_dsprites().pixels(bad)


# ---- the official file, small


SMALL = FactorGrid(("shape", "x"), (2, 3))


def write_npz(path, *, imgs=None, latents_classes=None, **others):
    generator = np.random.default_rng(0)
    imgs = generator.integers(0, 2, (6, 4, 4), dtype=np.uint8) if imgs is None else imgs
    if latents_classes is None:
        latents_classes = SMALL.classes_of(torch.arange(6)).numpy()
    np.savez_compressed(path, imgs=imgs, latents_classes=latents_classes, **others)
    return imgs


def test_an_archive_is_unpacked_to_bits_and_read_back(tmp_path):
    """Its metadata, pickled objects in the official file, are left alone."""
    imgs = write_npz(tmp_path / "a.npz", metadata=np.array({"would": "run code"}, dtype=object))
    unpack(tmp_path / "a.npz", tmp_path / "packed.npy", grid=SMALL, shape=(4, 4))
    images = stored(tmp_path / "packed.npy", name="small", source="a test", grid=SMALL, shape=(1, 4, 4))
    order = torch.tensor([5, 0, 3])
    found = images.pixels(SMALL.classes_of(order))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(imgs[order].reshape(3, 16)).float())
    assert (tmp_path / "packed.npy").stat().st_size < 128 + 6 * 16  # a bit a pixel
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imgs": np.zeros((6, 4, 5), np.uint8)}, r"imgs is uint8 \(6, 4, 5\), expected uint8 \(6, 4, 4\)"),
        ({"imgs": np.zeros((5, 4, 4), np.uint8)}, r"imgs is uint8 \(5, 4, 4\)"),
        ({"imgs": np.zeros((6, 4, 4), np.float32)}, r"imgs is float32"),
        ({"imgs": np.full((6, 4, 4), 255, np.uint8)}, "pixel value 255"),
        ({"imgs": np.zeros((6, 4, 4), object)}, "pickled Python objects"),
        ({"imgs": np.asfortranarray(np.zeros((6, 4, 4), np.uint8))}, "Fortran order"),
        ({"latents_classes": np.zeros((6, 3), np.int64)}, r"latents_classes is \(6, 3\), expected \(6, 2\)"),
        ({"latents_classes": np.zeros((6, 2), np.int64)}, "not in grid order"),
        ({"latents_classes": np.zeros((6, 2), object)}, "pickled Python objects"),
    ],
)
def test_another_archive_is_refused_and_nothing_is_written(tmp_path, change, message):
    path, target = tmp_path / "a.npz", tmp_path / "packed.npy"
    write_npz(path, **change)
    with pytest.raises(DataError, match=message) as error:
        unpack(path, target, grid=SMALL, shape=(4, 4))
    assert str(path) in str(error.value)
    assert "Delete it" in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_damaged_archive_is_refused(tmp_path):
    path, target = tmp_path / "a.npz", tmp_path / "packed.npy"
    write_npz(path)
    whole = path.read_bytes()
    with pytest.raises(DataError, match=r"md5 .* expected 0123: damaged or another file"):
        unpack(path, target, grid=SMALL, shape=(4, 4), md5="0123")
    for content in (b"", whole[: len(whole) // 2], b"no archive at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no archive of these images"):
            unpack(path, target, grid=SMALL, shape=(4, 4))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(DataError, match=r"There is no item named 'latents_classes.npy'"):
        unpack(path, target, grid=SMALL, shape=(4, 4))
    assert not target.exists()


def test_a_disk_that_is_full_is_not_the_archives_fault(tmp_path, monkeypatch):
    write_npz(tmp_path / "a.npz")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vae_helpers.data.packed._pack", full)
    with pytest.raises(DataError, match=r"cannot be unpacked to .*No space left.* Free some space, or set VAE_DATA"):
        unpack(tmp_path / "a.npz", tmp_path / "packed.npy", grid=SMALL, shape=(4, 4))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_packed_file_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "packed.npy", np.zeros((6, 3), np.uint8))
    with pytest.raises(DataError, match=r"holds uint8 \(6, 3\), expected uint8 \(6, 2\)"):
        stored(tmp_path / "packed.npy", name="small", source="a test", grid=SMALL, shape=(1, 4, 4))
    (tmp_path / "packed.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read"):
        stored(tmp_path / "packed.npy", name="small", source="a test", grid=SMALL, shape=(1, 4, 4))


def test_the_official_file_is_asked_for_by_name_and_its_absence_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_OFFLINE", "1")
    with pytest.raises(DataError, match=r"VAE_OFFLINE forbids downloads. Fetch https://.* by hand and put it at"):
        load_dsprites("official", root=tmp_path)
    with pytest.raises(ValueError, match="unknown source 'mine'; choose rendered, official, small or turning"):
        load_dsprites("mine")
    write_npz(tmp_path / d.OFFICIAL)
    with pytest.raises(DataError, match=f"md5 .* expected {d.OFFICIAL_MD5}"):
        load_dsprites("official", root=tmp_path)


@pytest.mark.parametrize("error", [RuntimeError("File not found or corrupted."), KeyboardInterrupt()])
def test_a_download_that_is_cut_short_leaves_nothing(tmp_path, monkeypatch, error):
    import torchvision.datasets.utils

    def cut_short(url, root, filename, md5):
        (Path(root) / filename).write_bytes(b"half")
        raise error

    monkeypatch.delenv("VAE_OFFLINE", raising=False)
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", cut_short)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError
    with pytest.raises(expected) as said:
        load_dsprites("official", root=tmp_path)
    if expected is DataError:
        assert "cannot be downloaded (File not found or corrupted.). Fetch https" in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_are_none_are_refused(tmp_path):
    path = tmp_path / "dsprites_frames.npz"
    for content in (
        {"images": np.zeros((2, 64, 64), np.uint8)},
        {"images": np.zeros((2, 64, 63), np.uint8), "latents_classes": np.zeros((2, 6), np.int64)},
        {"images": np.zeros((2, 64, 64), np.uint8), "latents_classes": np.full((2, 6), 9)},
        {"images": np.full((2, 64, 64), 255, np.uint8), "latents_classes": np.zeros((2, 6), np.int64)},
    ):
        np.savez(path, **content)
        with pytest.raises(DataError, match="holds no dSprites frames"):
            d.load_frames(path)


def test_comparing_says_what_is_there(tmp_path):
    assert "no genuine image" in d.compare_dsprites(tmp_path)[0]
    chosen = classes(shape=torch.arange(3))
    images = d.render(chosen)
    images[2, 0, 0] = 1
    np.savez(tmp_path / "dsprites_frames.npz", images=images.numpy(), latents_classes=chosen.numpy())
    (line,) = d.compare_dsprites(tmp_path)
    assert line.endswith("square 0.00 (1), ellipse 0.00 (1), heart 1.00 (1)")


def test_comparing_reads_the_unpacked_official_file(tmp_path, monkeypatch):
    grid = FactorGrid(d.GRID.names, (1, 3, 1, 2, 1, 1))
    monkeypatch.setattr(d, "GRID", grid)
    frames = d.render(grid.classes_of(torch.arange(6)))
    frames[:2, 0, :3] = 1  # both squares, three pixels each
    np.save(tmp_path / d.PACKED, np.packbits(frames.flatten(1).numpy(), axis=1))
    (line,) = d.compare_dsprites(tmp_path, n=200)
    assert "the official file" in line
    assert "square 3.00" in line
    assert "ellipse 0.00" in line
    assert "heart 0.00" in line


@pytest.mark.parametrize(("source", "n_images"), [("small", 1152), ("turning", 23_040)])
def test_the_small_images_are_every_second_pixel_of_some_of_the_large_ones(source, n_images):
    small, large = load_dsprites(source), load_dsprites()
    assert (small.shape, small.grid.n_images) == ((1, 32, 32), n_images)
    classes = small.grid.sample(50, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([1, 1, 2, 2, 2, 2]) * classes + torch.tensor([0, 0, 1, 0, 0, 8])
    expected = large.pixels(places).view(-1, 64, 64)[:, ::2, ::2]
    assert torch.equal(small.pixels(classes).view(-1, 32, 32), expected)


def test_every_small_image_is_another_one():
    images = torch.cat([x for _, x in load_dsprites("small").chunks()])
    assert len(images.unique(dim=0)) == len(images)


@pytest.mark.parametrize("source", ["small", "turning"])
def test_every_small_image_is_whole(source):
    images = torch.cat([x for _, x in load_dsprites(source).chunks()]).view(-1, 32, 32)
    assert images.any(dim=(1, 2)).all()
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()
