"""Imports inside the package flow downwards only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vae_helpers"
# every module may import from its own layer's entry list only
ALLOWED = {
    "distributions": set(),
    "registry": set(),
    "priors": {"distributions", "registry"},
    "likelihoods": {"distributions", "registry"},
    "nets": set(),
    "models": {"nets", "priors", "likelihoods", "distributions"},
    "objectives": {"models", "priors", "likelihoods", "distributions", "registry"},
    "data": set(),
    "training": {"data", "models", "objectives", "distributions"},
    "evaluation": {"objectives", "models", "priors", "likelihoods", "distributions", "data"},
    "experiments": {
        "distributions", "priors", "likelihoods", "nets", "models", "objectives", "data", "training", "evaluation",
        "plotting",
    },
    "plotting": set(),
    "page": {"plotting", "models", "evaluation", "priors", "nets", "likelihoods", "data", "training"},
    "explorer": {"page", "plotting", "models", "data"},
    "doctor": {"data", "training"},
    "library": {"experiments", "explorer", "page", "data", "evaluation", "models", "training"},
    "commands": {"library", "experiments", "data", "doctor"},
    "__main__": {"commands", "experiments", "data", "training"},
    "__init__": set(),
}  # fmt: skip


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{path}: star import"
            names = [node.module] if node.module != "vae_helpers" else [f"vae_helpers.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("vae_helpers.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_flow_downwards(path):
    layer = layer_of(path)
    assert layer in ALLOWED, f"say in this test what {layer} may import"
    assert imported_layers(path) <= ALLOWED[layer] | {layer}


def test_every_layer_named_here_exists():
    assert {layer_of(path) for path in PACKAGE.rglob("*.py")} == set(ALLOWED)


def test_the_layers_have_no_cycle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {layer for layer, below in ALLOWED.items() if layer not in done and below <= done}
        assert ready, f"a cycle among {set(ALLOWED) - done}"
        done |= ready
