"""A GPU of fake tensors: shapes, dtypes and devices without numbers, on a machine that has none."""

import copy
import types
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OnADevice(TorchDispatchMode):
    """Lists what copies the host's constants to a CUDA device; fake tensors refuse to read a number back at all."""

    def __init__(self):
        super().__init__()
        self.copies = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        if any(t.device.type == "cpu" and t.ndim > 0 for t in tensors) and any(t.is_cuda for t in made):
            self.copies.append(str(func))
        return found


@contextmanager
def fake_gpu():
    """Within it all tensors are fake, and a CUDA graph seems to be captured.

    `copy.deepcopy` moves models, updates and batches to the GPU, with what their closures hold. Neither autograd nor
    fused Adam runs on fake tensors of a GPU that is not there: ``backward`` gives the parameters that the loss depends
    on a gradient of their shape, and Adam checks where everything lies that it is given.
    """
    moved = {
        torch.device: lambda device, memo: torch.device("cuda"),
        types.FunctionType: _function_there,
        torch.Tensor: _tensor_there,
        torch.nn.Parameter: _tensor_there,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(copy._deepcopy_dispatch, moved))
        stack.enter_context(mock.patch("torch.cuda.is_current_stream_capturing", return_value=True))
        stack.enter_context(mock.patch("torch.Tensor.backward", _backward))
        stack.enter_context(mock.patch("torch._fused_adam_", _fused_adam))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def _tensor_there(tensor, memo):
    found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
    if isinstance(tensor, torch.nn.Parameter):
        found = torch.nn.Parameter(found, requires_grad=tensor.requires_grad)
    return memo.setdefault(id(tensor), found)


def _function_there(function, memo):
    if not function.__closure__:
        return function
    cells = tuple(types.CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in function.__closure__)
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)


def _backward(loss):
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        waiting += [before for before, _ in node.next_functions]


def _fused_adam(*lists, **options):
    places = {leaf.device.type for leaf in tree_leaves((lists, options)) if isinstance(leaf, torch.Tensor)}
    assert places == {"cuda"}, places
