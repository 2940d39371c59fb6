"""Families by what a model is to do."""

from __future__ import annotations

from ._guide import Basis, Cell, Verdict, row

_FIRST, _GOOD, _NICHE, _UNTRIED, _POOR, _NO = Verdict
_RECIPE, _MATRIX, _PUBLISHED, _REASONED = Basis

APPLICATIONS = (
    row(
        "control",
        "Control",
        "steer a plant, from its state to a force",
        zero=Cell(
            _FIRST,
            "no derivative of the plant needed; cost 1.67 ± .31 where its model is far off, the gradient 3.26 ± 1.32",
            _RECIPE,
            "EvolutionMethod",
            ("control-lif-es", "hybrid-study"),
        ),
        one=Cell(
            _GOOD,
            "best where the plant itself can be differentiated: cost .78 ± .07, evolution 1.41 ± .37",
            _RECIPE,
            "Autodiff",
            ("hybrid-study",),
        ),
        mixed=Cell(
            _NICHE,
            "where the plant's model is far off, cost 1.42 ± .19; where it is right 1.13 ± .09, the gradient .78 ± .07",
            _RECIPE,
            "GuidedES",
            ("hybrid-study",),
        ),
        local=Cell(
            _POOR,
            "feedback stops at a hard spike as the gradient does; e-prop needs labels",
            _MATRIX,
            "FeedbackLinear",
        ),
        transfer=Cell(_UNTRIED, "called rare: rates answer late", _PUBLISHED, "convert"),
        matrix="control",
    ),
    row(
        "classification",
        "Classification",
        "a label for each sample or event stream",
        zero=Cell(
            _NICHE,
            "cross-entropy .504 ± .003, a surrogate's .4870 ± .0002 for as many evaluations",
            _RECIPE,
            "EvolutionMethod",
            ("hybrid-study",),
        ),
        one=Cell(
            _FIRST,
            "lowest cross-entropy for as many evaluations: .4870 ± .0002",
            _RECIPE,
            "Autodiff",
            ("classification-rsnn", "digits-lif", "hybrid-study"),
        ),
        mixed=Cell(
            _NICHE,
            "saves units that a surrogate without tails leaves silent, cross-entropy .487 for 1.099; no help elsewhere",
            _RECIPE,
            "Hybrid",
            ("hybrid-study", "digits-lif"),
        ),
        local=Cell(
            _GOOD, "e-prop is as good as the surrogate on digits, 98.1 ± 0.8 % each", _RECIPE, "EProp", ("digits-lif",)
        ),
        transfer=Cell(
            _GOOD,
            "digits: 98.4 ± 0.7 % after 4 steps, 98.6 ± 0.3 % after 64, its ReLU source 98.8 ± 0.3 %",
            _RECIPE,
            "convert",
            ("digits-lif",),
        ),
        matrix="spiking",
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
            "differences are the published way, to every printed digit; on a black box strategies are ahead of them",
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
        mixed=Cell(_POOR, "the cells are smooth, there is nothing to correct: level at the best", _MATRIX, "Hybrid"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(_NO, "there is nothing to convert", _REASONED),
        matrix="chain",
    ),
    row(
        "poles",
        "Poles and singular maps",
        "answers that do not exist everywhere (rational)",
        zero=Cell(
            _POOR, "(P, Q) is smooth and has a gradient, which no strategy comes near", _MATRIX, "EvolutionMethod"
        ),
        one=Cell(
            _FIRST,
            "nothing divides in training, so (P, Q) has a derivative at a pole too",
            _RECIPE,
            "Autodiff",
            ("rational-pole", "rational-dose", "rational-filter", "rational-arm"),
        ),
        mixed=Cell(_POOR, "the tuple is smooth, there is nothing to correct: level at the best", _MATRIX, "Hybrid"),
        local=Cell(_NO, "no local rule takes a tuple (P, Q)", _REASONED),
        transfer=Cell(_NO, "no converter to (P, Q)", _REASONED),
        matrix="rational",
    ),
    row(
        "sound",
        "Sound and oscillators",
        "an equation that must sing alone",
        zero=Cell(
            _NICHE,
            "level with the gradient on a short song and a hundred parameters; untried on thousands",
            _MATRIX,
            "EvolutionMethod",
        ),
        one=Cell(
            _FIRST,
            "through the rollout, examples clipped, horizons growing",
            _RECIPE,
            "Autodiff",
            ("song-coldstart", "song-syrinx"),
        ),
        mixed=Cell(_POOR, "behind the gradient and behind strategies, on a short song", _MATRIX, "GuidedES"),
        local=Cell(_UNTRIED, "the rules here are made for spiking cells", _REASONED),
        transfer=Cell(
            _POOR,
            "one-step regression fits nearly perfectly; that says little of singing",
            _RECIPE,
            None,
            ("song-onestep",),
        ),
        matrix="song",
    ),
)
