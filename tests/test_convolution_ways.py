"""What benchmarks/convolutions.py compares is one function."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks.convolutions import doubling, product_and_fold, sub_pixel, sub_pixel_kernel, transposed
from benchmarks.profiles import flop


@pytest.mark.parametrize(("n_in", "n_out", "shape"), [(5, 3, (4, 6)), (2, 1, (1, 1)), (1, 4, (7, 2))])
def test_the_ways_give_the_same_image_and_the_same_gradient(n_in, n_out, shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, n_in, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(n_in, n_out, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = transposed(x, weight)
    gradients = torch.autograd.grad(expected.square().sum(), (x, weight))
    others = sub_pixel(x, sub_pixel_kernel(weight)), product_and_fold(x, weight), doubling(n_in, n_out)(x, weight)
    for found in others:
        assert_close(found, expected)
        assert_close(torch.autograd.grad(found.square().sum(), (x, weight)), gradients)


@pytest.mark.parametrize(
    ("operator", "shapes", "expected"),
    [
        ("aten::mm", [[3, 4], [4, 5]], 2 * 3 * 4 * 5),
        ("aten::addmm", [[5], [3, 4], [4, 5]], 2 * 3 * 4 * 5),
        ("aten::mkldnn_convolution", [[2, 3, 8, 8], [5, 3, 4, 4], [5]], 2 * (2 * 4 * 4) * 5 * 3 * 16),
        ("aten::_convolution", [[2, 3, 4, 4], [3, 5, 4, 4], [5]], 2 * (2 * 4 * 4) * 5 * 3 * 16),
        ("aten::convolution_backward", [[2, 5, 4, 4], [2, 3, 8, 8], [5, 3, 4, 4]], 0),
        ("aten::elu", [[3, 4]], 0),
    ],
)
def test_operations_by_hand(operator, shapes, expected):
    assert flop(operator, shapes) == expected
