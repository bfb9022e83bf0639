"""Few labels in many examples: splits that keep them, batches of both kinds, and the loss and step on two batches."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from vae_helpers import objectives
from vae_helpers.data import (
    Batches,
    DataError,
    LabelledBatches,
    TwoStreams,
    draw_label_split,
    load_label_split,
    to_grey,
)
from vae_helpers.evaluation import accuracy
from vae_helpers.likelihoods import Bernoulli
from vae_helpers.models import ADGM, M2
from vae_helpers.nets import MLP, JointMLP
from vae_helpers.priors import StandardNormal
from vae_helpers.training import SemiSupervisedStep, fit

COUNTS = {"n_labelled": 6, "n_unlabelled": 20}
D, K = 12, 3


def many_labels(n=1000, n_classes=10, *, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, n_classes, n))


# ---- which examples keep their labels


@pytest.mark.parametrize("n_labels", [10, 100, 600])
def test_a_split_keeps_as_many_labels_of_each_class_and_the_others_are_the_rest(n_labels):
    y = many_labels()
    split = draw_label_split(y, n_labels=n_labels, seed=0)
    assert y[split.labelled].bincount(minlength=10).tolist() == [n_labels // 10] * 10
    assert len(split.labelled) == n_labels
    assert sorted([*split.labelled.tolist(), *split.unlabelled.tolist()]) == list(range(1000))
    assert split.unlabelled.tolist() == sorted(split.unlabelled.tolist())
    assert (split.n_examples, split.n_classes, split.seed) == (1000, 10, 0)


def test_a_split_depends_on_its_seed_alone_and_differs_in_every_class():
    y, before = many_labels(), torch.get_rng_state()
    one, again, other = (draw_label_split(y, n_labels=100, seed=s).labelled for s in (3, 3, 4))
    assert torch.equal(one, again)
    for label in range(10):
        assert set(one[y[one] == label].tolist()) != set(other[y[other] == label].tolist())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_split_draws_from_the_whole_of_each_class():
    y = torch.arange(4).repeat(50)
    drawn = torch.cat([draw_label_split(y, n_labels=40, seed=s, n_classes=4).labelled for s in range(100)])
    assert len(drawn.unique()) == 200  # left out 100 times at one chance in five: never


def test_positions_drawn_differ_between_the_classes():
    y = torch.arange(10).repeat(100)  # every class has its members at the same positions
    members = draw_label_split(y, n_labels=100, seed=0).labelled.view(10, 10) // 10
    assert len({tuple(sorted(row.tolist())) for row in members}) == 10


def test_splits_of_one_seed_are_nested():
    y = many_labels()
    sets = [set(draw_label_split(y, n_labels=n, seed=5).labelled.tolist()) for n in (10, 100, 600)]
    assert sets[0] < sets[1] < sets[2]


@pytest.mark.parametrize(
    ("y", "n_labels", "message"),
    [
        (many_labels(), 0, "got 0"),
        (many_labels(), -10, "got -10"),
        (many_labels(), 5, "10 classes.*got 5"),
        (many_labels(), 105, "10 classes.*got 105"),
        (torch.arange(10).repeat(4)[:39], 40, "40 needs 4 examples.*class 9 has 3; at most 30"),
        (torch.arange(9).repeat(4), 10, "class 9 has 0"),
        (torch.arange(11).repeat(4), 10, "0..9, found 0 to 10"),
        (torch.arange(-1, 10).repeat(4), 10, "found -1 to 9"),
        (torch.arange(10).repeat(4).float(), 10, "float32"),
        (torch.arange(10).repeat(4)[:, None], 10, r"\(40, 1\)"),
        (torch.empty(0, dtype=torch.int64), 10, r"\(0,\)"),
    ],
)
def test_a_split_that_cannot_be_drawn_raises_and_shows_why(y, n_labels, message):
    with pytest.raises(ValueError, match=message):
        draw_label_split(y, n_labels=n_labels, seed=0)


def test_a_saved_split_is_the_same_when_loaded(tmp_path):
    y = many_labels()
    split = draw_label_split(y, n_labels=100, seed=3)
    split.save(tmp_path / "deeper" / "split.json")
    found = load_label_split(tmp_path / "deeper" / "split.json", y)
    assert torch.equal(found.labelled, split.labelled)
    assert torch.equal(found.unlabelled, split.unlabelled)
    for field in ("n_examples", "n_classes", "seed", "labels_sha256"):
        assert getattr(found, field) == getattr(split, field)


def test_a_split_by_hand_need_not_be_balanced(tmp_path):
    y = many_labels()
    split = draw_label_split(y, n_labels=20, seed=0)
    dataclasses.replace(split, labelled=split.labelled[1:]).save(tmp_path / "split.json")
    assert torch.equal(load_label_split(tmp_path / "split.json", y).labelled, split.labelled[1:])


def written(path, **changes):
    """A split of `many_labels` on disk, with some of its values changed."""
    draw_label_split(many_labels(), n_labels=20, seed=0).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize(
    ("y", "n_classes"),
    [
        (many_labels(seed=1), 10),
        (many_labels().flip(0), 10),
        (many_labels()[:999], 10),
        (many_labels(), 11),
    ],
    ids=["labels", "order", "length", "classes"],
)
def test_a_split_of_other_data_raises(tmp_path, y, n_classes):
    path = written(tmp_path / "split.json")
    with pytest.raises(DataError, match=rf"split\.json was made for other data: 1000 .*{len(y)}"):
        load_label_split(path, y, n_classes=n_classes)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'"text"', b"null", b"\xff\xfe", b"{}", b'{"labelled": [1, 2]}'],
)
def test_a_damaged_split_raises_and_is_named(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"split\.json is no label split"):
        load_label_split(path, many_labels())


def test_a_split_cut_short_or_missing_raises(tmp_path):
    path = written(tmp_path / "split.json")
    path.write_text(path.read_text()[:-5])
    for name in ("split.json", "none.json"):
        with pytest.raises(DataError, match=f"{name} is no label split"):
            load_label_split(tmp_path / name, many_labels())


@pytest.mark.parametrize("labelled", [None, "text", {}, 7, [[1, 2], [3]], [[1, 2], [3, 4]], ["1"], [2**70], [1, None]])
def test_labelled_indices_of_another_kind_raise(tmp_path, labelled):
    with pytest.raises(DataError, match=r"split\.json"):
        load_label_split(written(tmp_path / "split.json", labelled=labelled), many_labels())


@pytest.mark.parametrize("changes", [{"labels_sha256": 12}, {"labels_sha256": None}, {"n_examples": "1000"}])
def test_other_values_of_another_kind_raise(tmp_path, changes):
    with pytest.raises(DataError, match=r"split\.json"):
        load_label_split(written(tmp_path / "split.json", **changes), many_labels())


@pytest.mark.parametrize("bad", ["twice", "high", "negative", "fraction"])
def test_indices_that_are_not_different_examples_raise(tmp_path, bad):
    labelled = draw_label_split(many_labels(), n_labels=20, seed=0).labelled.tolist()
    labelled[3] = {"twice": labelled[4], "high": 1000, "negative": -1, "fraction": labelled[3] + 0.5}[bad]
    with pytest.raises(DataError, match=r"different indices from 0 to 999|no label split"):
        load_label_split(written(tmp_path / "split.json", labelled=labelled), many_labels())


def test_a_class_without_a_labelled_example_raises_and_is_named(tmp_path):
    y = many_labels()
    labelled = draw_label_split(y, n_labels=20, seed=0).labelled
    without = labelled[(y[labelled] != 4) & (y[labelled] != 7)].tolist()
    for some, missing in ((without, "4, 7"), ([], "0, 1, 2, 3, 4, 5, 6, 7, 8, 9")):
        with pytest.raises(ValueError, match=f"no labelled example of class {missing};"):
            load_label_split(written(tmp_path / "split.json", labelled=some), y)


# ---- batches with labels


def marked(n, *, size=4, seed=0):
    """Images whose first pixel is their label."""
    y = many_labels(n)
    x = torch.randint(0, 255, (n, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    x[:, 0] = y.to(torch.uint8)
    return LabelledBatches(x, y, batch_size=size, seed=seed, transform=to_grey)


def marks(batch):
    return (batch.x[:, 0] * 255).round().long()


def test_labels_stay_with_their_images_through_every_pass():
    batches = marked(23)
    for _ in range(20):
        batch = batches.take(batches.draw())
        assert batch.x.dtype == torch.float32
        assert torch.equal(marks(batch), batch.y)
    index = torch.tensor([5, 2, 20])
    assert torch.equal(batches.take(index).y, many_labels(23)[index])


def pair(seed=0):
    """Labelled images, and unlabelled ones whose only pixel is their number."""
    numbers = torch.arange(100.0, 130.0)[:, None]
    return TwoStreams(marked(10, seed=seed), Batches(numbers, batch_size=7, seed=seed + 1))


def test_two_streams_give_both_batches_each_from_its_own_set():
    streams, seen = pair(), []
    for _ in range(8):
        (x, y), x_unlabelled = batch = streams.take(streams.draw())
        assert x.shape == (4, 3)
        assert x_unlabelled.shape == (7, 1)
        assert torch.equal(marks(batch.labelled), y)
        seen.append(x_unlabelled[:, 0])
    for one in (torch.cat(seen[:4]), torch.cat(seen[4:])):  # two passes
        assert len(one.unique()) == 28
        assert one.min() >= 100
    assert not torch.equal(seen[0], seen[4])


@pytest.mark.parametrize("drawn", [0, 1, 5])
def test_two_streams_go_on_from_a_saved_position(drawn):
    whole, resumed = pair(), pair(seed=4)
    for _ in range(drawn):
        whole.draw()
    resumed.draw()
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))  # plain values
    assert [whole.draw().tolist() for _ in range(9)] == [resumed.draw().tolist() for _ in range(9)]


@pytest.mark.parametrize("y", [torch.zeros(9), torch.zeros(11), torch.zeros(10, 1), torch.zeros(())])
def test_labels_that_are_not_one_an_image_raise(y):
    with pytest.raises(ValueError, match=r"agree in length, got \(10, 3\)"):
        LabelledBatches(torch.zeros(10, 3), y.long(), batch_size=2, seed=0)


def test_labelled_batches_check_what_batches_check():
    with pytest.raises(ValueError, match="got 11"):
        LabelledBatches(torch.zeros(10, 3), torch.zeros(10).long(), batch_size=11, seed=0)
    with pytest.raises(ValueError, match="need a transform"):
        LabelledBatches(torch.zeros(10, 3).byte(), torch.zeros(10).long(), batch_size=2, seed=0)


# ---- the loss of a data set


def test_the_total_is_the_sum_over_the_data_set_and_any_batches_estimate_it_without_bias():
    generator = torch.Generator().manual_seed(0)

    def terms(n, *names):
        return {name: torch.randn(n, dtype=torch.float64, generator=generator) for name in names}

    labelled, unlabelled = terms(6, "loss", "log_qy"), terms(10, "loss")
    weights = {"n_labelled": 6, "n_unlabelled": 10, "alpha": 3.2}
    expected = (labelled["loss"].sum() + unlabelled["loss"].sum() - 3.2 * labelled["log_qy"].sum() / 6) / 16
    for size_labelled in (1, 2, 3, 6):
        for size_unlabelled in (1, 2, 5, 10):
            found = [
                objectives.total_loss(
                    {name: value[i : i + size_labelled] for name, value in labelled.items()},
                    {name: value[j : j + size_unlabelled] for name, value in unlabelled.items()},
                    **weights,
                )
                for i in range(0, 6, size_labelled)
                for j in range(0, 10, size_unlabelled)
            ]
            assert found[0].shape == ()
            torch.testing.assert_close(torch.stack(found).mean(), expected)


def two_terms():
    labelled = {"loss": torch.tensor([1.0, 3.0]), "log_qy": torch.tensor([-0.5, -1.5], requires_grad=True)}
    return labelled, {"loss": torch.tensor([5.0])}


def test_alpha_weighs_the_cross_entropy_of_the_classifier_and_0_leaves_it_out():
    labelled, unlabelled = two_terms()
    for alpha in (0.0, 1.0, 10.0):
        found = objectives.total_loss(labelled, unlabelled, **COUNTS, alpha=alpha)
        assert found.item() == pytest.approx((6 * 2 + 20 * 5 + alpha * 1) / 26)
        (by_log_qy,) = torch.autograd.grad(found, labelled["log_qy"])
        torch.testing.assert_close(by_log_qy, torch.full((2,), -alpha / 2 / 26))


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_an_alpha_out_of_range_raises(alpha):
    with pytest.raises(ValueError, match=f"alpha.*{alpha}"):
        objectives.total_loss(*two_terms(), **COUNTS, alpha=alpha)


@pytest.mark.parametrize(("name", "count"), [("n_labelled", 0), ("n_unlabelled", 0), ("n_unlabelled", -3)])
def test_a_count_below_one_raises(name, count):
    with pytest.raises(ValueError, match=f"{name}={count}"):
        objectives.total_loss(*two_terms(), **(COUNTS | {name: count}), alpha=0.0)


def test_weights_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        objectives.total_loss(*two_terms(), 6, 20, 0.0)


# ---- the step on two batches


def build(kind, *, seed=0, dtype=torch.float32):
    """A small M2 or ADGM of binary data."""
    torch.manual_seed(seed)
    x_dim = D + 2 * (kind == "adgm")
    nets = MLP(x_dim, [16], K), JointMLP([x_dim, K], [16], 4), JointMLP([2, K], [16], D), Bernoulli(), StandardNormal(2)
    if kind == "m2":
        return M2(*nets, n_classes=K).to(dtype)
    auxiliary = {"a_encoder": MLP(D, [8], 4), "a_decoder": JointMLP([D, K, 2], [8], 4)}
    return ADGM(*nets, n_classes=K, **auxiliary).to(dtype)


def streams(*, seed=0, dtype=torch.float32):
    """Six labelled and twenty unlabelled examples."""
    generator = torch.Generator().manual_seed(7)
    x = (torch.rand(26, D, generator=generator) > 0.5).to(dtype)
    y = torch.randint(K, (6,), generator=generator)
    return TwoStreams(LabelledBatches(x[:6], y, batch_size=3, seed=seed), Batches(x[6:], batch_size=5, seed=seed + 1))


def step_of(kind, *, seed=0, dtype=torch.float32, **options):
    return SemiSupervisedStep(build(kind, seed=seed, dtype=dtype), **COUNTS, alpha=2.6, lr=0.01, **options)


def weights_of(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("kind", ["m2", "adgm"])
def test_a_step_descends_the_total_loss_of_its_two_batches(kind):
    step, reference, stream = (
        step_of(kind, dtype=torch.float64),
        build(kind, dtype=torch.float64),
        streams(dtype=torch.float64),
    )
    (x, y), x_unlabelled = batch = stream.take(stream.draw())
    torch.manual_seed(5)
    means = step(batch)
    torch.manual_seed(5)
    labelled, unlabelled = objectives.labelled(reference, x, y), objectives.unlabelled(reference, x_unlabelled)
    loss = objectives.total_loss(labelled, unlabelled, **COUNTS, alpha=2.6)
    assert means["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    loss.backward()
    for name, value in reference.named_parameters():
        torch.testing.assert_close(dict(step.model.named_parameters())[name].grad, value.grad, msg=name)
    optimizer.step()
    torch.testing.assert_close(weights_of(step.model), weights_of(reference))
    for terms, names in (
        (unlabelled, ["log_px", "kl", "entropy", "unlabelled_bound"]),
        (labelled, ["labelled_bound", "log_qy"]),
    ):
        for name in names:
            assert means[name].item() == pytest.approx(terms[name].mean().item(), rel=1e-12)
            assert not means[name].requires_grad


def clusters(n_per_class):
    """A pattern of four ones for each class, one bit in ten flipped."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.eye(K).repeat_interleave(4, dim=1).repeat_interleave(n_per_class, dim=0)
    flips = (torch.rand(patterns.shape, generator=generator) < 0.1).float()
    return (patterns - flips).abs(), torch.arange(K).repeat_interleave(n_per_class)


def test_a_tiny_data_set_with_one_label_a_class_is_learned():
    x, y = torch.eye(K).repeat_interleave(4, dim=1), torch.arange(K)
    model, (x_rest, y_rest) = build("m2"), clusters(20)
    stream = TwoStreams(LabelledBatches(x, y, batch_size=3, seed=0), Batches(x_rest, batch_size=30, seed=0))
    step = SemiSupervisedStep(model, n_labelled=3, n_unlabelled=60, alpha=63.0, lr=0.01)
    history = fit(model, stream, update=step, steps=400, log_every=20, progress=False)
    flipped = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9)) * D  # entropy of the flips, 3.9 nats; 12 coins have 8.3
    assert history["unlabelled_bound"][0] < -7
    assert history["unlabelled_bound"][-1] > -(flipped + math.log(K)) - 1  # log p(x) of the truth is about its entropy
    assert history["log_qy"][-1] > -0.1
    assert accuracy(model, x, y).percent == 100
    assert accuracy(model, x_rest, y_rest).percent > 90


def run_to(steps, path, *, kind, crash_at=None, seed=0, **options):
    """Train with a checkpoint every ten steps, and die at one of them."""
    step, calls = step_of(kind, seed=seed, **options), [0]
    plain = step.objective

    def objective(model, x):
        calls[0] += 1
        if calls[0] == crash_at:
            raise RuntimeError("killed")
        return plain(model, x)

    step.objective = objective
    rules = {"steps": steps, "log_every": 5, "checkpoint_every": 10, "progress": False}
    history = fit(step.model, streams(seed=seed), update=step, checkpoint=path, resume=True, **rules)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]
    return weights_of(step.model), rows


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("m2", {}),
        ("adgm", {"unlabelled": objectives.unlabelled_top}),
        ("m2", {"unlabelled": lambda model, x: objectives.unlabelled_sampled(model, x, temperature=0.5)}),
        ("m2", {"decay_steps": 30}),
    ],
    ids=["all", "adgm-top", "gumbel", "decay"],
)
def test_a_run_killed_or_stopped_and_resumed_is_the_uninterrupted_one_bit_for_bit(tmp_path, kind, options):
    whole, rows = run_to(30, tmp_path / "whole.pt", kind=kind, **options)
    with pytest.raises(RuntimeError, match="killed"):
        run_to(30, tmp_path / "killed.pt", kind=kind, crash_at=18, **options)
    run_to(13, tmp_path / "stopped.pt", kind=kind, **options)
    resumed, resumed_rows = run_to(30, tmp_path / "killed.pt", kind=kind, seed=3, **options)
    assert torch.equal(resumed, whole)
    assert resumed_rows == rows
    assert torch.equal(run_to(30, tmp_path / "stopped.pt", kind=kind, seed=4, **options)[0], whole)


def test_the_step_size_falls_linearly_over_the_second_half():
    step, stream, found = step_of("m2", decay_steps=8), streams(), []
    for _ in range(9):
        step(stream.take(stream.draw()))
        found.append(float(step.optimizer.param_groups[0]["lr"]))
    assert found == pytest.approx([0.01] * 5 + [0.0075, 0.005, 0.0025, 0.0])


@pytest.mark.parametrize("options", [{"alpha": -1.0}, {"alpha": 1.0, "n_labelled": 0}])
def test_a_step_with_weights_out_of_range_raises_at_its_first_batch(options):
    stream = streams()
    step = SemiSupervisedStep(build("m2"), **(COUNTS | options))
    with pytest.raises(ValueError, match=r"alpha.*-1|n_labelled=0"):
        step(stream.take(stream.draw()))


def test_an_objective_that_averages_over_its_batch_raises_in_the_step():
    stream = streams()
    step = step_of("m2", unlabelled=lambda model, x: {"loss": objectives.unlabelled(model, x)["loss"].mean()})
    with pytest.raises(ValueError, match=r"'loss' has shape \(\)"):
        step(stream.take(stream.draw()))
