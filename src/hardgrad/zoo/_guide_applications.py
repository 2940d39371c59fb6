"""Families by what a model is to do."""

from __future__ import annotations

from ._guide import Basis, Cell, Verdict, row

_FIRST, _GOOD, _NICHE, _UNTRIED, _POOR, _NO = Verdict
_RECIPE, _STUDY, _PUBLISHED, _REASONED = Basis

APPLICATIONS = (
    row(
        "control",
        "Control",
        "steer a plant, from its state to a force",
        zero=Cell(
            _FIRST,
            "no derivative of the plant needed; 3.72 ± .19 where its model is off, the model's gradient 4.64 ± .43",
            _STUDY,
            "EvolutionMethod",
            ("control-lif-es",),
        ),
        one=Cell(
            _GOOD,
            "better where the plant itself can be differentiated: 1.04 ± .18, evolution 1.72 ± .09",
            _STUDY,
            "Autodiff",
        ),
        mixed=Cell(
            _NICHE,
            "1.69 to 1.99 where the plant is known; level (3.09 to 3.19) where its model errs in places",
            _STUDY,
            "GuidedES",
        ),
        local=Cell(
            _UNTRIED, "learns as it acts, but the cost must have a derivative by the action", _REASONED, "EProp"
        ),
        transfer=Cell(_UNTRIED, "called rare: rates answer late", _PUBLISHED, "convert"),
    ),
    row(
        "classification",
        "Classification",
        "a label for each sample or event stream",
        zero=Cell(_NICHE, ".555 ± .016 against .496 ± .001 at equal cost", _STUDY, "EvolutionMethod"),
        one=Cell(
            _FIRST,
            "lowest loss at equal cost: .496 ± .001",
            _STUDY,
            "Autodiff",
            ("classification-rsnn",),
        ),
        mixed=Cell(
            _NICHE,
            "wins where units are silent, .502 ± .003 against .898 ± .255; loses where none is, .516 ± .009",
            _STUDY,
            "Hybrid",
        ),
        local=Cell(_GOOD, "online where memory over time is short", _REASONED, "EProp"),
        transfer=Cell(_GOOD, "from a trained ReLU network, at the price of time steps", _REASONED, "convert"),
    ),
    row(
        "language",
        "Language and sequences",
        "the next symbol of a long sequence",
        zero=Cell(_POOR, "many parameters, dear evaluations: variance grows as n/m", _REASONED, "EvolutionMethod"),
        one=Cell(
            _FIRST, "state-space layers differentiate all steps in parallel", _RECIPE, "Autodiff", ("language-s5",)
        ),
        mixed=Cell(_UNTRIED, "called situational: forward passes are dear on long sequences", _PUBLISHED, "Hybrid"),
        local=Cell(
            _UNTRIED, "synthetic gradients train segments of a stream without waiting", _REASONED, "SyntheticGradients"
        ),
        transfer=Cell(_UNTRIED, "called emerging: quantised state-space layers", _PUBLISHED, "quantise"),
    ),
    row(
        "forecasting",
        "Forecasting",
        "several futures at once (hypercausal)",
        zero=Cell(
            _GOOD,
            "the published way, to every printed digit; the only one where the model is a NumPy function",
            _RECIPE,
            "CentralDifference",
            ("hypercausal-depth", "hypercausal-graph"),
        ),
        one=Cell(
            _FIRST,
            "the same loss as differences, within 1e-7, for one evaluation and a backward pass",
            _RECIPE,
            "Autodiff",
            ("hypercausal-sunspots",),
        ),
        mixed=Cell(_UNTRIED, "the cells are smooth: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(_NO, "there is nothing to convert", _REASONED),
    ),
    row(
        "poles",
        "Poles and singular maps",
        "answers that do not exist everywhere (rational)",
        zero=Cell(_UNTRIED, "(P, Q) is smooth and has a gradient; differences are a check of it", _REASONED, "SPSA"),
        one=Cell(
            _FIRST,
            "nothing divides in training, so (P, Q) has a derivative at a pole too",
            _RECIPE,
            "Autodiff",
            ("rational-pole", "rational-dose", "rational-filter", "rational-arm"),
        ),
        mixed=Cell(_UNTRIED, "the tuple is smooth: nothing to correct", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "feedback alignment would fit its perceptron", _REASONED, "FeedbackLinear"),
        transfer=Cell(_NO, "no converter to (P, Q)", _REASONED),
    ),
    row(
        "sound",
        "Sound and oscillators",
        "an equation that must sing alone",
        zero=Cell(_UNTRIED, "thousands of parameters, thousands of steps an evaluation", _REASONED, "EvolutionMethod"),
        one=Cell(
            _FIRST,
            "through the rollout, examples clipped, horizons growing",
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
