"""Drawn portraits: what every factor does to the picture, and to nothing else."""

import pytest
import torch

from vae_helpers.data import FactorBatches
from vae_helpers.data import portraits as p

# The fewest pixels of 4,096 that change by more than 30 of 255 between a factor's ends, whatever the others are.
SEEN = {
    "turn": 400,
    "width": 300,
    "skin": 500,
    "hair_colour": 300,
    "hair_length": 300,
    "eye_size": 50,
    "eye_spacing": 60,
    "brow": 30,
    "smile": 25,
    "mouth_open": 40,
    "light": 300,
    "background": 1500,
}


def faces(**values):
    """Faces that are 0 but for some factors, given as numbers or (N,) values; (N, 12)."""
    columns = torch.broadcast_tensors(*(torch.as_tensor(values.get(name, 0.0)).float() for name in p.FACTORS))
    return torch.stack([column.reshape(-1) for column in columns], dim=1)


def some(n, seed=0):
    return torch.rand(n, len(p.FACTORS), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draw(factors):
    """Pictures (N, 3, 64, 64) int64."""
    return p.render_portraits(factors).view(-1, *p.SHAPE).long()


def ends(factors, name):
    """The same faces with one factor at -1 and at 1."""
    low, high = factors.clone(), factors.clone()
    low[:, p.FACTORS.index(name)], high[:, p.FACTORS.index(name)] = -1, 1
    return draw(low), draw(high)


def changed(factors, name, by=30):
    """Where one factor changes the picture by more than ``by``, (N, 64, 64) bool."""
    low, high = ends(factors, name)
    return ((low - high).abs() > by).any(1)


def near(images, colour, within=60):
    """Pixels whose channels together differ from a colour by less than ``within``, (N, 64, 64) bool."""
    return (images - torch.tensor(colour)[:, None, None]).abs().sum(1) < within


def mean_place(mask, axis):
    """Mean row (axis 0) or column (axis 1) of the pixels of masks (N, H, W), (N,)."""
    weight = mask.sum(2 - axis).double()
    return (weight * torch.arange(mask.shape[1 + axis])).sum(1) / weight.sum(1)


STEPS = torch.linspace(-1, 1, p.VALUES)


# ---- the contract


def test_the_contract():
    images = p.render_portraits(some(20))
    assert images.shape == (20, 3 * 64 * 64)
    assert images.dtype == torch.uint8
    assert images.min() < 30
    assert images.max() > 240
    assert p.render_portraits(torch.empty(0, 12)).shape == (0, 3 * 64 * 64)


def test_the_grid_can_be_drawn_from_and_its_ends_are_those_of_the_range():
    images = p.load_portraits()
    assert images.grid.names == p.FACTORS
    assert images.grid.n_images == 11**12 < 2**63
    index = torch.randint(images.grid.n_images, (1000,), generator=torch.Generator().manual_seed(0))
    classes = images.grid.classes_of(index)
    assert torch.equal(images.grid.index_of(classes), index)
    assert classes.amin(0).tolist() == [0] * 12
    assert classes.amax(0).tolist() == [10] * 12
    every = torch.arange(11)[:, None].repeat(1, 12)
    assert torch.equal(images.render(every), p.render_portraits(STEPS[:, None].repeat(1, 12)))


def test_portraits_come_as_images_and_as_streams():
    images = p.load_portraits()
    assert (images.shape, images.x_dim, images.white) == ((3, 64, 64), 12288, 255)
    assert "made by a formula" in images.source
    batches, again = (FactorBatches(images, batch_size=5, seed=3) for _ in range(2))
    batch = batches.take(batches.draw())
    assert batch.x.shape == (5, 12288)
    assert batch.classes.shape == (5, 12)
    assert torch.equal(batch.x, p.render_portraits(batch.classes / 5 - 1) / 255)
    assert torch.equal(batch.x, images.pixels(batch.classes))
    assert torch.equal(batch.x, again.take(again.draw()).x)
    assert not torch.equal(batch.x, batches.take(batches.draw()).x)


def test_a_face_is_the_same_alone_and_in_any_batch():
    factors = some(33)
    images = p.render_portraits(factors)
    assert torch.equal(p.render_portraits(factors), images)
    assert torch.equal(torch.cat([p.render_portraits(row[None]) for row in factors]), images)
    assert torch.equal(p.render_portraits(factors.flip(0)).flip(0), images)
    assert torch.equal(p.render_portraits(factors.double().T.contiguous().T), images)


def test_drawing_leaves_random_state_gradients_and_input_alone():
    before, factors = torch.get_rng_state(), some(2).requires_grad_()
    copy = factors.detach().clone()
    assert not p.render_portraits(factors).requires_grad
    assert torch.equal(factors.detach(), copy)
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_never_waits_for_the_device():
    """No operation hands a value to the host, or makes a constant there: a captured step allows neither."""
    render, classes = p.load_portraits().render, torch.zeros(2, 12, dtype=torch.int64)
    render(classes)  # makes the constants
    waits = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::lift_fresh"}
    with torch.autograd.profiler.profile() as seen:
        render(classes)
    assert waits.isdisjoint(event.name for event in seen.function_events)
    with torch.autograd.profiler.profile() as seen:
        p.render_portraits(torch.zeros(2, 12))  # which does look
    assert not waits.isdisjoint(event.name for event in seen.function_events)


# ---- what the factors do


def test_every_factor_has_a_threshold():
    assert tuple(SEEN) == p.FACTORS


@pytest.mark.parametrize("name", p.FACTORS)
def test_every_factor_is_seen_whatever_the_others_are(name):
    corners = torch.cat([some(60, seed=1), some(60, seed=2).sign()])
    assert changed(corners, name).sum((1, 2)).min() >= SEEN[name]


@pytest.mark.parametrize("name", p.FACTORS)
def test_every_step_of_every_factor_changes_the_picture(name):
    others = some(8, seed=3)
    factors = others.repeat_interleave(p.VALUES, 0)
    factors[:, p.FACTORS.index(name)] = STEPS.repeat(8)
    images = draw(factors).view(8, p.VALUES, *p.SHAPE)
    assert (images.diff(dim=1).abs().amax((2, 3, 4)) >= 8).all()


def test_turning_head_and_light_the_other_way_mirrors_the_picture():
    factors = some(40)
    mirrored = factors.clone()
    for name in ("turn", "light"):
        mirrored[:, p.FACTORS.index(name)] *= -1
    assert torch.equal(draw(mirrored).flip(3), draw(factors))
    assert not torch.equal(draw(mirrored), draw(factors))


def test_turning_right_moves_the_mouth_right():
    columns = mean_place(near(draw(faces(turn=STEPS, mouth_open=-1, hair_colour=-1)), p.LIPS), 1)
    assert (columns.diff() > 0.5).all()
    assert columns[5] == pytest.approx(31.5)


def test_turning_right_shows_the_left_ear_and_narrows_the_right_eye():
    factors = faces(turn=1, hair_length=-1)
    across = changed(factors, "skin")[0, 33:36].any(0).nonzero()[:, 0]  # at the ears
    assert 31.5 - across[0] > across[-1] - 31.5 + 2
    eyes = changed(factors, "eye_size")[0].any(0).nonzero()[:, 0]
    between = mean_place(near(draw(factors), p.LIPS, 100)[:, 40:], 1).item()
    assert (eyes < between).sum() > 1.3 * (eyes > between).sum() > 3


def test_a_wider_head_has_more_skin_and_equal_eyes():
    skin = changed(faces(width=STEPS), "skin")
    across = skin[:, 38].sum(1)  # in a row between nose and mouth
    assert (across.diff() >= 0).all()
    assert across[-1] - across[0] >= 7
    eyes = near(draw(faces(width=STEPS)), p.EYE_WHITE, 150)[:, 24:38].sum((1, 2))
    assert eyes.min() == eyes.max() >= 6


def test_skin_darkens_and_is_the_only_thing_that_does():
    images = draw(faces(skin=STEPS)).double()
    skin = changed(faces(), "skin")[0]
    assert (images[:, :, skin].mean((1, 2)).diff() < -5).all()
    assert torch.equal(images[0, :, :8], images[-1, :, :8])  # sky above the head


def test_hair_colours_run_from_black_to_gold():
    hair = changed(faces(), "hair_colour")[0]
    red, green, blue = draw(faces(hair_colour=STEPS)).double()[:, :, hair].mean(2).T
    assert (red.diff() > 5).all()
    assert red[0] < 40
    assert red[-1] > green[-1] > 1.5 * blue[-1]


def test_longer_hair_covers_more_and_reaches_further_down():
    for turn in (-1, 0, 1):
        hair = changed(faces(hair_length=STEPS, turn=turn), "hair_colour")
        assert (hair.sum((1, 2)).diff() > 0).all()
        lowest = torch.stack([mask.any(1).nonzero()[-1, 0] for mask in hair])
        assert (lowest.diff() >= 0).all()
        assert lowest[-1] - lowest[0] > 20


def test_larger_eyes_are_larger_and_stay_where_they_are():
    white = near(draw(faces(eye_size=STEPS)), p.EYE_WHITE)[:, 24:38]
    dark = near(draw(faces(eye_size=STEPS)), p.IRIS, 100)[:, 24:38]
    area = (white | dark).sum((1, 2))
    assert area[-1] > 1.8 * area[0]
    assert mean_place(changed(faces(), "eye_size", by=10), 0) == pytest.approx(30, abs=2)


def test_spacing_moves_the_eyes_apart():
    factors = faces(eye_spacing=STEPS)
    right = changed(factors, "eye_size", by=10)[:, :, 32:]
    places = mean_place(right, 1)
    assert (places.diff() > 0.1).all()
    assert places[-1] - places[0] == pytest.approx(2.4, abs=0.4)


def test_brows_turn_from_angry_to_worried():
    brows = near(draw(faces(brow=STEPS)), p.BROW)[:, 16:28]  # above the lashes
    inner, outer = mean_place(brows[:, :, 33:37], 0), mean_place(brows[:, :, 40:44], 0)
    tilt = outer - inner  # of rows, which run down
    assert tilt[0] < -2
    assert tilt[-1] > 2
    assert (tilt.diff() >= 0).all()


def test_a_smile_lifts_the_corners_of_the_mouth():
    images = draw(faces(smile=STEPS, mouth_open=-1, hair_colour=-1, skin=-1))
    red = (120 - images[:, 1, 34:]).clamp_min(0)  # the mouth's green is far below that of pale skin
    centre, corner = mean_place(red[:, :, 30:34], 0), mean_place(red[:, :, 36:38], 0)
    lift = centre - corner
    assert (lift.diff() > 0.1).all()
    assert lift[0] < -1.5
    assert lift[-1] > 1.5


def test_an_open_mouth_shows_more_of_the_throat_and_then_teeth():
    images = draw(faces(mouth_open=STEPS))[:, :, 36:]
    throat = near(images, p.THROAT).sum((1, 2))
    assert (throat.diff() >= 0).all()
    assert throat[0] == 0
    assert throat[-1] > 10
    teeth = near(images[:, :, :14, 24:40], p.TEETH, 120).sum((1, 2))
    assert teeth[0] == 0 < teeth[-1]


def test_light_comes_from_its_side():
    skin = changed(faces(), "skin")[0]
    images = draw(faces(light=STEPS)).double()
    left, right = (
        images[:, :, :, columns][:, :, skin[:, columns]].mean((1, 2)) for columns in (slice(0, 28), slice(36, 64))
    )
    assert (left.diff() < -1).all()
    assert (right.diff() > 1).all()
    assert left[5] == pytest.approx(right[5].item(), abs=0.1)


def test_the_background_is_all_that_its_colour_changes():
    factors = some(40)
    low, high = ends(factors, "background")
    moved = (low != high).any(1)
    assert moved[:, :6].all()
    assert moved[:, :, (0, 63)][:, :50].all()
    assert not moved[:, 20:46, 24:40].any()  # within the narrowest head
    for name in ("eye_size", "brow", "mouth_open"):
        inside = changed(factors, name, by=0)
        assert (inside & moved).sum() <= 0.01 * inside.sum()  # a far brow may end at the head's edge
    assert 0.35 < moved.double().mean() < 0.7


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [("SKIN", "HAIR", 40), ("SKIN", "BACKGROUND", 50), ("HAIR", "BACKGROUND", 100), ("SKIN", "LIPS", 50)],
)
def test_colours_that_meet_are_never_alike(first, second, apart):
    value = torch.linspace(-1, 1, 101)[:, None, None]
    paths = [path if isinstance(path[0], tuple) else (path,) for path in (getattr(p, first), getattr(p, second))]
    one, other = (p._between(path, value).flatten(1) for path in paths)
    assert torch.cdist(one, other).min() > apart


def test_colours_between_two_of_a_path_are_halfway():
    found = p._between(((0, 10, 20), (100, 20, 20), (0, 0, 0)), torch.tensor([-1, -0.5, 0, 1])[:, None, None])
    assert found.flatten(1).tolist() == [[0, 10, 20], [50, 15, 20], [100, 20, 20], [0, 0, 0]]


def test_an_ellipse_covers_its_area():
    x, y = p._coordinates(torch.device("cpu"))
    for rx, ry in ((10, 10), (20, 5), (1.5, 6)):
        assert p._ellipse(x, y, rx, ry).sum().item() == pytest.approx(torch.pi * rx * ry, rel=0.03)


# ---- errors


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 11), r"factors must be \(N, 12\) in the order .*'turn', 'width'.*got \(2, 11\)"),
        (torch.zeros(12), r"got \(12,\)"),
        (faces(smile=torch.tensor([0.0, 1.5])), r"smile must lie in \[-1, 1\], found 1.5 in row 1"),
        (faces(turn=-1.01), r"turn must lie in \[-1, 1\], found -1.01 in row 0"),
        (faces(background=float("nan")), r"background must lie in \[-1, 1\], found nan"),
        (faces(light=float("-inf")), r"light must lie in \[-1, 1\], found -inf"),
    ],
)
def test_bad_factors_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        p.render_portraits(bad)


def test_bad_classes_are_named():
    classes = torch.zeros(2, 12, dtype=torch.int64)
    classes[1, 3] = 11
    with pytest.raises(ValueError, match=r"hair_colour has the values 0\.\.10, found 11"):
        p.load_portraits().pixels(classes)
