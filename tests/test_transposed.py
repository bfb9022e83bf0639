"""The faster transposed convolution is the ordinary one: results, gradients, precision, layouts."""

import pytest
import torch
from torch import nn

from vae_helpers.nets import ConvDecoder
from vae_helpers.nets.transposed import DoublingConv2d


def both(n_in, n_out, **options):
    """The two layers with the same weights."""
    new = DoublingConv2d(n_in, n_out, **options)
    old = nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1, **options)
    old.load_state_dict(new.state_dict())
    return new, old


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("n_in", "n_out", "size"), [(3, 1, (5, 4)), (2, 3, (4, 7)), (1, 1, (1, 1))])
def test_results_and_gradients_are_those_of_a_transposed_convolution(n_in, n_out, size, layout):
    new, old = both(n_in, n_out)
    x = torch.randn(6, n_in, *size).contiguous(memory_format=layout)
    weights = torch.randn(6, n_out, 2 * size[0], 2 * size[1])
    found = []
    for layer in (new, old):
        x_in = x.clone().requires_grad_()
        y = layer(x_in)
        (y * weights).sum().backward()
        found.append((y.detach(), x_in.grad, layer.weight.grad, layer.bias.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n_out", [1, 2])
def test_gradients_are_those_of_finite_differences(n_out):
    layer = DoublingConv2d(2, n_out).double()
    x = torch.randn(2, 2, 3, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,)), (x, layer.weight, layer.bias)
    )


@pytest.mark.parametrize("n_out", [1, 2])
def test_bf16_computes_in_bf16_and_gives_float_gradients(n_out):
    new, old = both(8, n_out)
    x = torch.randn(4, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = new(x), old(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)  # 8 bits, and the sums rounded in another order
    ours.float().sum().backward()
    theirs.float().sum().backward()
    assert new.weight.grad.dtype == torch.float32
    torch.testing.assert_close(new.weight.grad, old.weight.grad, rtol=0.03, atol=0.3)


def test_odd_sides_and_other_devices_take_the_ordinary_path():
    new, old = both(3, 2, output_padding=(1, 0))
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(new(x), old(x))
    on_meta = DoublingConv2d(3, 1).to("meta")
    assert on_meta(torch.zeros(2, 3, 4, 4, device="meta")).shape == (2, 1, 8, 8)


def test_weights_of_a_decoder_are_named_as_before():
    names = ConvDecoder(3, (16, 16), channels=(4, 8)).state_dict()
    assert {"deconv.0.weight", "deconv.0.bias", "deconv.2.weight", "deconv.2.bias"} <= set(names)


def test_a_frozen_layer_still_passes_gradients_on():
    layer = DoublingConv2d(2, 1).requires_grad_(False)
    x = torch.randn(2, 2, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert layer.weight.grad is None
