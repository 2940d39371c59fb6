"""Families by what there is to learn from: the question that decides most."""

from __future__ import annotations

from ._guide import Basis, Cell, Verdict, row

_FIRST, _GOOD, _NICHE, _UNTRIED, _POOR, _NO = Verdict
_RECIPE, _MATRIX, _PUBLISHED, _REASONED = Basis

_NEEDS_ONE = Cell(_NO, "needs a derivative", _REASONED)

DERIVATIVES = (
    row(
        "exact",
        "Exists and is right",
        "the model is smooth and the gradient points where it should",
        zero=Cell(
            _POOR,
            "comes to the same loss, within 1e-7, for 2n + 1 evaluations a step; a check of the gradient",
            _RECIPE,
            "CentralDifference",
            ("hypercausal-depth",),
        ),
        one=Cell(
            _FIRST,
            "one evaluation and one backward pass, however many parameters",
            _MATRIX,
            "Autodiff",
            ("rational-pole", "language-s5", "hypercausal-sunspots"),
        ),
        mixed=Cell(
            _POOR,
            "samples only add noise: cross-entropy .490 ± .001, the surrogate alone .4870 ± .0002",
            _RECIPE,
            "Hybrid",
            ("hybrid-study",),
        ),
        local=Cell(_POOR, "approximates what can be had exactly", _REASONED, "FeedbackLinear"),
        transfer=Cell(_NICHE, "afterwards, if weights must end in a few bits", _MATRIX, "quantise"),
        matrix="regression",
    ),
    row(
        "surrogate",
        "Spikes, with a surrogate",
        "steps whose derivative is replaced in the backward pass",
        zero=Cell(
            _NICHE,
            "tiny networks; cross-entropy .504 ± .003 for as many evaluations, the surrogate .4870 ± .0002",
            _RECIPE,
            "EvolutionMethod",
            ("hybrid-study",),
        ),
        one=Cell(
            _FIRST,
            "best for as many evaluations, cross-entropy .4870 ± .0002, as long as no unit is without a gradient",
            _RECIPE,
            "Autodiff",
            ("classification-rsnn", "digits-lif", "hybrid-study"),
        ),
        mixed=Cell(
            _NICHE,
            "saves units silent without tails, cross-entropy .487 for 1.099; elsewhere level, or up to 20 % worse",
            _RECIPE,
            "Hybrid",
            ("hybrid-study",),
        ),
        local=Cell(
            _GOOD,
            "no memory over time; approximate where units are recurrent, and on digits none the worse for it",
            _RECIPE,
            "EProp",
            ("digits-lif",),
        ),
        transfer=Cell(
            _GOOD, "no training through spikes at all, then long runs to predict", _RECIPE, "convert", ("digits-lif",)
        ),
        matrix="spiking",
    ),
    row(
        "explodes",
        "Exists and explodes",
        "long rollouts, bifurcations: a few examples outweigh all others",
        zero=Cell(_NICHE, "smoothing over σ tames the slope; variance grows as n/m", _REASONED, "AntitheticNES"),
        one=Cell(
            _FIRST,
            "clip each example, let the horizon grow; steps that are not finite are left out",
            _RECIPE,
            "Autodiff",
            ("song-coldstart", "song-syrinx"),
        ),
        mixed=Cell(_UNTRIED, "GuidedES takes the direction only, and measures the slope", _REASONED, "GuidedES"),
        local=Cell(_UNTRIED, "e-prop leaves out the paths along which products grow", _REASONED, "EProp"),
        transfer=Cell(
            _POOR,
            "an easier loss may be met perfectly and mean little: compare the two",
            _RECIPE,
            None,
            ("song-onestep",),
        ),
    ),
    row(
        "partial",
        "Zero or missing for some parameters",
        "rounded delays, discrete settings, silent units, a black box inside",
        zero=Cell(
            _NICHE,
            "noisy on all parameters for the sake of some: loss 1.05 ± .03 with rounded delays, a gradient .64 ± .03",
            _RECIPE,
            "EvolutionMethod",
            ("hybrid-study",),
        ),
        one=Cell(
            _FIRST,
            "where something can stand in for it: tails cure silent units, loss .487; delays interpolated, .61 ± .04",
            _RECIPE,
            "SuperSpike",
            ("hybrid-study",),
        ),
        mixed=Cell(
            _GOOD,
            "where it cannot: silent units, loss .487 for 1.099; rounded delays by block gained nothing",
            _RECIPE,
            "Hybrid",
            ("hybrid-study",),
        ),
        local=Cell(_POOR, "its traces hold the same zeros", _REASONED, "EProp"),
        transfer=Cell(_NICHE, "for rounded weights: straight through the rounding", _REASONED, "quantise"),
    ),
    row(
        "wrong",
        "Exists, but of a wrong model",
        "a simulator you can differentiate that is not the plant",
        zero=Cell(
            _FIRST,
            "needs no model: cost 1.67 ± .31 where it is far off, its gradient 3.26 ± 1.32",
            _RECIPE,
            "EvolutionMethod",
            ("hybrid-study", "control-lif-es"),
        ),
        one=Cell(
            _NICHE,
            "level with the best where the model is off by half as much: cost 1.30 ± .20, evolution 1.76 ± .55",
            _RECIPE,
            "Autodiff",
            ("hybrid-study",),
        ),
        mixed=Cell(
            _GOOD,
            "GuidedES, cost 1.42 ± .19, measures along the gradient and across; Hybrid, 11 to 27, across alone",
            _RECIPE,
            "GuidedES",
            ("hybrid-study",),
        ),
        local=Cell(_POOR, "takes over the wrong derivative", _REASONED, "EProp"),
        transfer=Cell(_UNTRIED, "train in the model, then go on at order 0 on the real thing", _REASONED),
    ),
    row(
        "online",
        "No backward pass over time",
        "memory, a stream without end, or a chip forbids it",
        zero=Cell(
            _GOOD,
            "forward passes only: memory of one state a member",
            _REASONED,
            "EvolutionMethod",
            ("control-lif-es",),
        ),
        one=Cell(_NICHE, "segment= keeps about 2√T states in the place of T, and stays exact", _REASONED, "run"),
        mixed=Cell(_POOR, "its first half is a backward pass", _REASONED, "Hybrid"),
        local=Cell(
            _FIRST, "traces run with the network; memory does not grow with time", _RECIPE, "EProp", ("digits-lif",)
        ),
        transfer=Cell(_GOOD, "train elsewhere, convert, deploy", _RECIPE, "convert", ("digits-lif",)),
    ),
    row(
        "bits",
        "Weights must end in a few bits",
        "a chip with weights of 4 bits, say: rounding has no derivative",
        zero=Cell(
            _NICHE,
            "sees the rounded model as it is; a few parameters, on the chip itself",
            _REASONED,
            "EvolutionMethod",
        ),
        one=Cell(
            _POOR,
            "trained without the rounding and rounded at the end: what that costs shows only then",
            _REASONED,
            "Autodiff",
        ),
        mixed=Cell(
            _UNTRIED, "the straight-through gradient is biased; samples could see by how much", _REASONED, "Hybrid"
        ),
        local=Cell(_UNTRIED, "to tune further on a chip", _REASONED, "EProp"),
        transfer=Cell(
            _FIRST,
            "trained through the rounding: 4 bits cost nothing on spikes, .053 ± .003, floats .055 ± .007; on a"
            " regression they did",
            _MATRIX,
            "quantise",
        ),
        matrix="regression",
    ),
    row(
        "trained",
        "An easier network is trained already",
        "a ReLU network to convert to spikes",
        zero=Cell(_NICHE, "to tune a few parameters on the hardware itself", _REASONED, "EvolutionMethod"),
        one=Cell(_NICHE, "to tune further after conversion, with a surrogate", _REASONED, "Autodiff"),
        mixed=Cell(_UNTRIED, "as for any other start", _REASONED, "Hybrid"),
        local=Cell(_UNTRIED, "to tune further on a chip", _REASONED, "EProp"),
        transfer=Cell(_FIRST, "convert, compare with the source, then tune", _RECIPE, "convert", ("digits-lif",)),
    ),
    row(
        "none",
        "None",
        "a black box, or steps without a surrogate",
        zero=Cell(
            _FIRST,
            "values of the loss are all there is",
            _MATRIX,
            "EvolutionMethod",
            ("control-lif-es", "hypercausal-depth"),
        ),
        one=_NEEDS_ONE,
        mixed=_NEEDS_ONE,
        local=_NEEDS_ONE,
        transfer=Cell(_UNTRIED, "fit a smooth stand-in, train in it, then go on at order 0", _REASONED),
        matrix="box",
    ),
)
