"""The recipes by name. Light on purpose: `hardgrad list` reads it without importing JAX."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recipe as it is listed.

    Attributes:
        name: what the user types.
        summary: the question it answers, in one line.
        application: ``"hypercausal"``, ...
        method: how it trains unless told otherwise.
        architecture: what it trains.
        order: the information the method uses: ``"0"``, ``"1"``, ``"0+1"``, ``"local"``, ``"transfer"``.
        module: where the recipe is.
    """

    name: str
    summary: str
    application: str
    method: str
    architecture: str
    order: str
    module: str

    def load(self) -> Any:
        """The recipe's `Recipe`."""
        return importlib.import_module(self.module).RECIPE


_ENTRIES = (
    Entry(
        name="hypercausal-depth",
        summary="The published run: depth grows while a chain trains on finite differences",
        application="hypercausal",
        method="central differences",
        architecture="chain",
        order="0",
        module="hardgrad.zoo.hypercausal_depth",
    ),
    Entry(
        name="hypercausal-graph",
        summary="Published case study: what-if futures, least risk, alarms on a drifting signal",
        application="hypercausal",
        method="forward differences",
        architecture="graph",
        order="0",
        module="hardgrad.zoo.hypercausal_graph",
    ),
    Entry(
        name="hypercausal-sunspots",
        summary="Do K futures beat persistence and a linear autoregression on real sunspots?",
        application="hypercausal",
        method="automatic differentiation",
        architecture="chain",
        order="1",
        module="hardgrad.zoo.hypercausal_sunspots",
    ),
    Entry(
        name="rational-pole",
        summary="Can a network learn 1/(x₁ - x₂), poles and all, and refuse where there is none?",
        application="rational",
        method="automatic differentiation",
        architecture="perceptron",
        order="1",
        module="hardgrad.zoo.rational_pole",
    ),
    Entry(
        name="rational-dose",
        summary="Censored dose-response: does one rational model match classifier + regressor?",
        application="rational",
        method="automatic differentiation",
        architecture="perceptron to (P, Q)",
        order="1",
        module="hardgrad.zoo.rational_dose",
    ),
    Entry(
        name="rational-filter",
        summary="Resonator peaks: does a rational network keep them beyond the Q it has seen?",
        application="rational",
        method="automatic differentiation",
        architecture="transfer function",
        order="1",
        module="hardgrad.zoo.rational_filter",
    ),
    Entry(
        name="rational-arm",
        summary="Singular postures: what does a network know of an arm's steps at det J = 0?",
        application="rational",
        method="automatic differentiation",
        architecture="perceptron to (P, Q)",
        order="1",
        module="hardgrad.zoo.rational_arm",
    ),
    Entry(
        name="song-coldstart",
        summary="Can an oscillator, led by slow drives, sing a bird's song alone from silence?",
        application="oscillators",
        method="automatic differentiation",
        architecture="frames to limit cycle",
        order="1",
        module="hardgrad.zoo.song_coldstart",
    ),
    Entry(
        name="song-onestep",
        summary="The same by one-step regression: does a perfect fit sing when it is alone?",
        application="oscillators",
        method="automatic differentiation",
        architecture="frames to limit cycle",
        order="1",
        module="hardgrad.zoo.song_onestep",
    ),
    Entry(
        name="song-syrinx",
        summary="The syrinx equation of 2021, driven by learned pressure and tension",
        application="oscillators",
        method="automatic differentiation",
        architecture="frames to syrinx",
        order="1",
        module="hardgrad.zoo.song_syrinx",
    ),
    Entry(
        name="control-lif-es",
        summary="Can evolution alone teach eight spiking neurons to bring a mass to rest?",
        application="spiking",
        method="evolution strategy",
        architecture="LIF",
        order="0",
        module="hardgrad.zoo.control_lif_es",
    ),
    Entry(
        name="classification-rsnn",
        summary="Noisy spike trains: how near to the best possible answer with a surrogate?",
        application="spiking",
        method="surrogate gradient",
        architecture="recurrent LIF",
        order="1",
        module="hardgrad.zoo.classification_rsnn",
    ),
    Entry(
        name="digits-lif",
        summary="Real digits as spikes: surrogate, e-prop, conversion, hybrid side by side",
        application="spiking",
        method="surrogate gradient",
        architecture="recurrent LIF",
        order="1",
        module="hardgrad.zoo.digits_lif",
    ),
    Entry(
        name="language-s5",
        summary="The next character: does a state-space model beat the best n-gram?",
        application="spiking",
        method="automatic differentiation",
        architecture="S5",
        order="1",
        module="hardgrad.zoo.language_s5",
    ),
    Entry(
        name="hybrid-study",
        summary="When do samples of the true loss help a surrogate gradient, at equal cost?",
        application="spiking",
        method="hybrid, blocks, guided",
        architecture="LIF",
        order="0+1",
        module="hardgrad.zoo.hybrid_study",
    ),
)


def entries() -> tuple[Entry, ...]:
    """All recipes, in the order in which they are listed."""
    return _ENTRIES


def find(name: str) -> Entry:
    """The recipe of a name.

    Raises:
        UsageError: there is none.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    from ..core import UsageError, did_you_mean

    names = [entry.name for entry in _ENTRIES]
    hint = did_you_mean(name, names)
    raise UsageError(f"there is no recipe '{name}'. {hint if hint.startswith('Did') else 'See: hardgrad list.'}")
