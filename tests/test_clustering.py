"""Agreement of clusters with classes, on clusterings whose scores are known."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vae_helpers.evaluation import clustering

Y = torch.arange(5).repeat_interleave(20)  # five classes of twenty


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0, 4, 2, 1]])
def test_clusters_that_are_the_classes_agree_whatever_their_numbers(order):
    numbers = torch.tensor(order)
    found = clustering(numbers[Y], Y, n_clusters=5, n_classes=5)
    assert found.accuracy_percent == 100
    assert found.nmi == pytest.approx(1)
    assert found.ari == pytest.approx(1)
    assert found.usage_entropy == pytest.approx(math.log(5), rel=1e-6)
    assert torch.equal(found.match[numbers], torch.arange(5))
    assert torch.equal(found.table, 20 * torch.eye(5, dtype=torch.int64)[found.match])


def test_one_cluster_for_all_is_as_good_as_the_largest_class():
    y = torch.tensor([0] * 30 + [1] * 50 + [2] * 20)
    found = clustering(torch.full((100,), 2), y, n_clusters=4, n_classes=3)
    assert found.accuracy_percent == 50
    assert found.nmi == pytest.approx(0, abs=1e-9)
    assert found.ari == pytest.approx(0, abs=1e-9)
    assert found.usage_entropy == 0
    assert found.match[2] == 1
    assert torch.equal(found.table.sum(1), torch.tensor([0, 0, 100, 0]))


def test_clusters_drawn_by_lot_agree_by_chance_only():
    torch.manual_seed(0)
    n = 20_000
    cluster, y = torch.randint(5, (2, n))
    found = clustering(cluster, y, n_clusters=5, n_classes=5)
    # counts of 800 with sd 28: the best of 120 matchings gains at most 4 sd in each of 5 cells of 20,000
    assert 20 < found.accuracy_percent < 20 + 100 * 5 * 4 * 28 / n
    assert 0 <= found.nmi < 16 / (2 * n) / math.log(5) * 4  # its mean is that of chi squared with 16 degrees, over 2 n
    assert abs(found.ari) < 2e-3
    assert math.log(5) - 1e-3 < found.usage_entropy < math.log(5)


def test_of_merged_classes_only_one_is_counted():
    found = clustering(torch.where(Y == 4, 3, Y), Y, n_clusters=5, n_classes=5)
    assert found.accuracy_percent == 80
    assert sorted(found.match.tolist()) == [0, 1, 2, 3, 4]
    mutual, h_y = 0.6 * math.log(5) + 0.4 * math.log(2.5), math.log(5)
    assert found.usage_entropy == pytest.approx(mutual, rel=1e-6)  # clusters are a function of the class
    assert found.nmi == pytest.approx(2 * mutual / (mutual + h_y))


def test_of_a_split_class_only_the_larger_part_is_counted():
    cluster = Y.clone()
    cluster[:8] = 5
    found = clustering(cluster, Y, n_clusters=6, n_classes=5)
    assert found.accuracy_percent == 92
    assert found.match.tolist() == [0, 1, 2, 3, 4, -1]
    h = 4 * 0.2 * math.log(5) - 0.12 * math.log(0.12) - 0.08 * math.log(0.08)
    assert found.usage_entropy == pytest.approx(h, rel=1e-6)
    assert found.nmi == pytest.approx(2 * math.log(5) / (h + math.log(5)))


@pytest.mark.parametrize(("n_clusters", "n_classes"), [(4, 4), (3, 5), (6, 3)])
def test_the_matching_is_the_best_of_all(n_clusters, n_classes):
    torch.manual_seed(0)
    y = torch.randint(n_classes, (60,))
    cluster = torch.where(torch.rand(60) < 0.5, y % n_clusters, torch.randint(n_clusters, (60,)))
    found = clustering(cluster, y, n_clusters=n_clusters, n_classes=n_classes)
    table = torch.zeros(n_clusters, n_classes, dtype=torch.int64)
    for k, label in zip(cluster.tolist(), y.tolist(), strict=True):
        table[k, label] += 1
    assert torch.equal(found.table, table)
    wide = table if n_clusters <= n_classes else table.T
    best = max(
        sum(wide[row, column].item() for row, column in enumerate(columns))
        for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert found.accuracy_percent == pytest.approx(100 * best / 60)
    matched = [(k, label) for k, label in enumerate(found.match.tolist()) if label >= 0]
    assert sum(table[pair].item() for pair in matched) == best
    assert len({label for _, label in matched}) == len(matched) == min(n_clusters, n_classes)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(y, cluster))
    assert found.ari == pytest.approx(adjusted_rand_score(y, cluster))
    shares = table.sum(1).double() / 60
    assert found.usage_entropy == pytest.approx(torch.special.entr(shares).sum().item(), rel=1e-6)


def test_the_adjusted_rand_index_is_that_of_counted_pairs():
    cluster, y = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    # 15 pairs: 3 together in clusters, 6 in classes, 2 in both; by chance 3 * 6 / 15
    found = clustering(cluster, y, n_clusters=3, n_classes=2)
    assert found.ari == pytest.approx((2 - 1.2) / ((3 + 6) / 2 - 1.2))
    assert found.accuracy_percent == pytest.approx(100 * 4 / 6)


@pytest.mark.parametrize(
    ("cluster", "y", "message"),
    [
        ([0, 1, 3], [0, 1, 2], r"cluster must lie in 0\.\.2, found 0 to 3"),
        ([0, -1, 2], [0, 1, 2], r"cluster must lie in 0\.\.2, found -1 to 2"),
        ([0, 1, 2], [0, 1, 4], r"y must lie in 0\.\.3, found 0 to 4"),
        ([0, 1, 2], [-1, 1, 2], r"y must lie in 0\.\.3, found -1 to 2"),
        ([0, 1], [0, 1, 2], r"\(2,\), \(3,\)"),
        ([[0, 1]], [[0, 1]], r"\(1, 2\), \(1, 2\)"),
        ([], [], r"\(0,\), \(0,\)"),
    ],
)
def test_what_is_no_clustering_raises(cluster, y, message):
    with pytest.raises(ValueError, match=message):
        clustering(torch.tensor(cluster).long(), torch.tensor(y).long(), n_clusters=3, n_classes=4)
