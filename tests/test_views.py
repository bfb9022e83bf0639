"""Second pictures: moved as asked, each by a map of its own, and the same for the same seed."""

import math

import pytest
import torch

from vae_helpers.data import Batches, TwoViews, binarise, random_affine, to_grey, two_views

H, W = 12, 16
STILL = {"degrees": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0}


def noise(n, shape=(H, W), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, shape[0] * shape[1]), generator=generator).byte()


def drawn(monkeypatch, *, turn=0.0, size=0.0, bend=0.0, right=0.0, down=0.0):
    """Let the five draws of every image be these, from -1 to 1: the ends of the ranges."""
    values = torch.tensor([turn, size, bend, right, down])
    monkeypatch.setattr(torch, "rand", lambda rows, n, device=None: ((values + 1) / 2)[:rows, None].expand(rows, n))


def spot(row, column, shape=(H, W), radius=1.5):
    """A bright disc, (1, H*W) uint8."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return (200 * inside).byte().flatten()[None]


def moments(x, shape):
    """Mean row, mean column and the variances of both, of the light of one picture."""
    light = x.view(shape).double() / x.sum()
    rows, columns = light.sum(1), light.sum(0)
    i, j = (torch.arange(n, dtype=torch.float64) for n in shape)
    row, column = (rows * i).sum(), (columns * j).sum()
    return [v.item() for v in (row, column, (rows * (i - row) ** 2).sum(), (columns * (j - column) ** 2).sum())]


def test_a_map_of_no_size_returns_the_image():
    x = noise(20)
    found = random_affine(x, (H, W), **STILL)
    assert found.dtype == torch.uint8
    assert torch.equal(found, x)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-3, 0), (0, 3), (0, -3), (3, -3)])
def test_a_shift_by_whole_pixels_moves_the_content_and_brings_in_black(monkeypatch, right, down):
    drawn(monkeypatch, right=right / 3, down=down / 3)
    x = noise(4).clamp_min(1)
    found = random_affine(x, (H, W), **(STILL | {"shift": 3.0})).view(4, H, W)
    padded = torch.zeros(4, H + 6, W + 6, dtype=torch.uint8)
    padded[:, 3:-3, 3:-3] = x.view(4, H, W)
    expected = padded[:, 3 + down : 3 + down + H, 3 + right : 3 + right + W]
    assert torch.equal(found, expected)
    assert (found == 0).sum() == 4 * (H * W - (H - abs(down)) * (W - abs(right)))


def test_shifts_stay_within_their_range_and_fill_it():
    torch.manual_seed(0)
    x = spot(5.5, 7.5, radius=2).expand(400, -1)
    moved = random_affine(x, (H, W), **(STILL | {"shift": 2.5}))
    centres = torch.tensor([moments(row, (H, W))[:2] for row in moved]) - torch.tensor([5.5, 7.5])
    # uint8 rounds the light of some 12 pixels, 200 each, by less than half: the centre by under 0.02
    assert centres.abs().max() < 2.52
    assert (centres.amax(0) > 2.3).all()
    assert (centres.amin(0) < -2.3).all()
    assert torch.corrcoef(centres.T)[0, 1].abs() < 5 / 400**0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_a_quarter_turn_is_that_of_torch(monkeypatch, sign):
    drawn(monkeypatch, turn=sign)
    x = noise(3, (9, 9))
    found = random_affine(x, (9, 9), **(STILL | {"degrees": 90.0})).view(3, 9, 9)
    assert torch.equal(found, torch.rot90(x.view(3, 9, 9), sign, dims=(1, 2)))


@pytest.mark.parametrize("shape", [(20, 20), (28, 20)])
def test_a_turn_keeps_a_disc_a_disc(monkeypatch, shape):
    drawn(monkeypatch, turn=1.0)
    row, column = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    x = spot(row + 3, column, shape, radius=3)
    found = moments(random_affine(x, shape, **(STILL | {"degrees": 90.0})), shape)
    before = moments(x, shape)
    distance = math.hypot(found[0] - row, found[1] - column)
    assert distance == pytest.approx(before[0] - row, abs=0.1)
    assert found[2] == pytest.approx(before[3], rel=0.05)  # interpolation blurs by a fraction of a pixel
    assert found[3] == pytest.approx(before[2], rel=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_scale_multiplies_lengths(monkeypatch, sign):
    drawn(monkeypatch, size=sign)
    shape = (41, 41)
    x = spot(20, 26, shape, radius=6)
    row, column, height, width = moments(random_affine(x, shape, **(STILL | {"scale": 0.3})), shape)
    factor, before = 1 + 0.3 * sign, moments(x, shape)
    assert row == pytest.approx(20, abs=0.05)
    assert column == pytest.approx(20 + 6 * factor, abs=0.1)
    # linear interpolation adds up to a quarter of a pixel squared, enlarged (0.42), to variances of 4 and more
    assert height == pytest.approx(before[2] * factor**2, abs=0.5)
    assert width == pytest.approx(before[3] * factor**2, abs=0.5)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shear_moves_rows_sideways_in_proportion_to_their_height(monkeypatch, sign):
    drawn(monkeypatch, bend=sign)
    shape = (41, 41)
    for row in (10, 20, 32):
        found = moments(random_affine(spot(row, 20, shape, radius=3), shape, **(STILL | {"shear": 0.25})), shape)
        assert found[0] == pytest.approx(row, abs=0.05)
        assert abs(found[1] - 20) == pytest.approx(0.25 * abs(row - 20), abs=0.05)
        assert (found[1] - 20) * (row - 20) * sign <= 0  # the grid is sheared one way, the picture the other


def test_values_stay_those_of_pixels():
    torch.manual_seed(0)
    white = torch.full((50, H * W), 255, dtype=torch.uint8)
    found = random_affine(white, (H, W), degrees=40, scale=0.5, shear=0.5, shift=3)
    assert found.dtype == torch.uint8
    assert found.shape == white.shape
    middle = found.view(50, H, W)[:, 5:7, 7:9]
    assert found.max() == 255
    assert (middle == 255).double().mean() > 0.95  # no overflow to 0; a few maps bring the border there
    grey = random_affine(torch.full((50, H * W), 100, dtype=torch.uint8), (H, W))
    assert grey.max() == 100
    assert (random_affine(torch.zeros_like(white), (H, W)) == 0).all()


def test_each_image_has_a_map_of_its_own_and_the_seed_decides():
    x = noise(1).expand(30, -1)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(random_affine(x, (H, W)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({tuple(row.tolist()) for row in found[0]}) == 30
    for name in STILL:
        torch.manual_seed(0)
        alone = random_affine(x, (H, W), **(STILL | {name: 0.5}))  # one kind of move at a time
        assert len({tuple(row.tolist()) for row in alone}) > 15, name


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.rand(2, H * W), {}, rf"uint8 of shape \(B, {H * W}\), got torch.float32"),
        (noise(2).long(), {}, "got torch.int64"),
        (noise(2)[:, 1:], {}, rf"of shape \(2, {H * W - 1}\)"),
        (noise(2).view(2, H, W), {}, rf"of shape \(2, {H}, {W}\)"),
        (noise(2)[0], {}, rf"of shape \({H * W},\)"),
        (noise(2), {"degrees": -1.0}, "degrees=-1.0"),
        (noise(2), {"scale": -0.1}, "scale=-0.1"),
        (noise(2), {"scale": 1.0}, r"scale < 1, got .*scale=1.0"),
        (noise(2), {"shear": -0.2}, "shear=-0.2"),
        (noise(2), {"shift": -2.0}, "shift=-2.0"),
        (noise(2), {"shift": math.nan}, "shift=nan"),
    ],
)
def test_what_is_no_image_or_no_range_raises(x, options, message):
    with pytest.raises(ValueError, match=message):
        random_affine(x, (H, W), **options)


def test_two_views_are_the_image_and_the_image_moved():
    x = noise(5)
    found = two_views(to_grey, lambda x: 1 - to_grey(x))(x)
    assert isinstance(found, TwoViews)
    torch.testing.assert_close(found.x, x.float() / 255)
    torch.testing.assert_close(found.view, 1 - x.float() / 255)
    alike = two_views(binarise, binarise)(noise(5))
    assert not torch.equal(alike.x, alike.view)  # binarised twice, by noise of their own


def test_batches_bring_both_views_of_the_same_images():
    x = noise(10)
    transform = two_views(to_grey, lambda x: to_grey(random_affine(x, (H, W), **STILL)))
    batches = Batches(x, batch_size=4, seed=0, transform=transform)
    batch = batches.take(batches.draw())
    assert isinstance(batch, TwoViews)
    assert batch.x.shape == (4, H * W)
    torch.testing.assert_close(batch.x, batch.view)
    known = {tuple(row.tolist()) for row in to_grey(x)}
    assert {tuple(row.tolist()) for row in batch.x} <= known
