"""Families by what a model is made of."""

from __future__ import annotations

from ._guide import Basis, Cell, Verdict, row

_FIRST, _GOOD, _NICHE, _UNTRIED, _POOR, _NO = Verdict
_RECIPE, _MATRIX, _PUBLISHED, _REASONED = Basis

ARCHITECTURES = (
    row(
        "lif",
        "LIF, recurrent LIF",
        "spiking networks",
        zero=Cell(
            _NICHE,
            "small ones: 42 parameters in control; cross-entropy .504 ± .003, a surrogate's .4870 ± .0002",
            _RECIPE,
            "EvolutionMethod",
            ("control-lif-es", "hybrid-study"),
        ),
        one=Cell(
            _FIRST,
            "surrogates; from a silent start one with tails reaches cross-entropy .487, Triangular stays at 1.099",
            _RECIPE,
            "Autodiff",
            ("classification-rsnn", "digits-lif", "hybrid-study"),
        ),
        mixed=Cell(
            _NICHE,
            "units that a surrogate without tails leaves silent: cross-entropy .487, the gradient alone 1.099",
            _RECIPE,
            "Hybrid",
            ("hybrid-study",),
        ),
        local=Cell(_GOOD, "e-prop is made for it", _RECIPE, "EProp", ("digits-lif",)),
        transfer=Cell(
            _GOOD, "from ReLU layers; few bits lose nothing on spikes themselves", _RECIPE, "convert", ("digits-lif",)
        ),
    ),
    row(
        "state-space",
        "S5, LRU",
        "diagonal state-space layers",
        zero=Cell(_POOR, "thousands of parameters with a gradient that is right", _REASONED, "EvolutionMethod"),
        one=Cell(_FIRST, "exact, and parallel over time", _RECIPE, "Autodiff", ("language-s5",)),
        mixed=Cell(_UNTRIED, "the gradient is exact: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "synthetic gradients, over segments", _REASONED, "SyntheticGradients"),
        transfer=Cell(_UNTRIED, "called emerging: quantised state-space layers", _PUBLISHED, "quantise"),
    ),
    row(
        "phasor",
        "Phasor layers",
        "complex numbers of unit size",
        zero=Cell(_UNTRIED, "possible, like for any model", _REASONED, "EvolutionMethod"),
        one=Cell(_FIRST, "the published way; smooth", _PUBLISHED, "Autodiff"),
        mixed=Cell(_UNTRIED, "smooth: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(_UNTRIED, "called unexplored: few bits for phases", _PUBLISHED, "quantise"),
    ),
    row(
        "recursive",
        "Recursive predictor",
        "chains and graphs of recursive cells",
        zero=Cell(
            _GOOD,
            "few parameters, so differences are cheap; needed where the model runs outside JAX",
            _RECIPE,
            "CentralDifference",
            ("hypercausal-depth", "hypercausal-graph"),
        ),
        one=Cell(
            _FIRST,
            "exact through a depth that changes while it trains",
            _RECIPE,
            "Autodiff",
            ("hypercausal-sunspots",),
        ),
        mixed=Cell(_UNTRIED, "smooth: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(_NO, "there is nothing to convert", _REASONED),
    ),
    row(
        "rational",
        "Rational P/Q",
        "tuples that stand for a quotient",
        zero=Cell(_UNTRIED, "has a gradient; differences are a check of it", _REASONED, "SPSA"),
        one=Cell(
            _FIRST,
            "smooth where the quotient is not",
            _RECIPE,
            "Autodiff",
            ("rational-pole", "rational-dose", "rational-filter", "rational-arm"),
        ),
        mixed=Cell(_UNTRIED, "smooth: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "feedback alignment would fit its perceptron", _REASONED, "FeedbackLinear"),
        transfer=Cell(_NO, "no converter to (P, Q)", _REASONED),
    ),
    row(
        "ode",
        "Driven differential equation",
        "an oscillator led by an encoder",
        zero=Cell(_UNTRIED, "each evaluation is a rollout of thousands of steps", _REASONED, "EvolutionMethod"),
        one=Cell(
            _FIRST,
            "through the integrator, examples clipped",
            _RECIPE,
            "Autodiff",
            ("song-coldstart", "song-syrinx"),
        ),
        mixed=Cell(_UNTRIED, "where a bifurcation spoils the gradient's length", _REASONED, "GuidedES"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(
            _POOR,
            "one-step regression fits nearly perfectly; that says little of singing",
            _RECIPE,
            None,
            ("song-onestep",),
        ),
    ),
)
