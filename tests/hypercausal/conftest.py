"""Golden values of the published system, and the models they belong to."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from hardgrad.hypercausal import Chain, HostChain, HypercausalObjective, LinearProjector, Node, TanhCell

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hypercausal.json"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Numbers of the published system, float64."""
    content: dict[str, Any] = json.loads(GOLDEN.read_text())
    return content


@pytest.fixture
def seed_chain(golden: dict[str, Any], x64: None) -> Chain:
    """The chain of the published training run at its start, in double precision."""
    config = golden["config"]
    nodes = [
        Node(
            TanhCell(node["w"], node["b"]),
            LinearProjector(
                span=node["span"],
                span_floor=config["span_floor"],
                span_depth_coefficient=config["span_depth_coef"],
            ),
        )
        for node in config["nodes"]
    ]
    return Chain(nodes, branches=config["K"])


@pytest.fixture
def seed_objective() -> HypercausalObjective:
    """Its objective."""
    return HypercausalObjective(alpha=0.8, beta=1.2)


@pytest.fixture
def seed_host(golden: dict[str, Any]) -> HostChain:
    """Both, on the host."""
    config = golden["config"]
    return HostChain(
        spans=tuple(node["span"] for node in config["nodes"]),
        branches=config["K"],
        span_floor=config["span_floor"],
        span_depth_coefficient=config["span_depth_coef"],
        policy=config["policy"],
        task=config["task_loss"],
        alpha=config["consistency"]["alpha"],
        beta=config["consistency"]["beta"],
        coherence_mode=config["coherence_mode"],
        task_weight=config["weights"]["task"],
        consistency_weight=config["weights"]["cons"],
        coherence_weight=config["weights"]["coh"],
    )
