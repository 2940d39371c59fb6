"""The five families of methods and what each offers: data for the guide and `hardgrad choose`. Imports no JAX."""

from __future__ import annotations

import dataclasses

from ..core import BACKWARD_COSTS, Order


@dataclasses.dataclass(frozen=True)
class Cost:
    """Evaluations of the objective in one step, for n parameters and m samples.

    Attributes:
        fixed: whatever n and m.
        per_parameter: for each parameter.
        per_sample: for each direction, pair or member drawn.
        backward: backward passes.
    """

    fixed: int
    per_parameter: int = 0
    per_sample: int = 0
    backward: int = 0

    def evaluations(self, parameters: int, samples: int) -> int:
        """Forward evaluations a step."""
        return self.fixed + self.per_parameter * parameters + self.per_sample * samples

    def work(self, parameters: int, samples: int) -> int:
        """The same with backward passes, in forward evaluations."""
        return self.evaluations(parameters, samples) + BACKWARD_COSTS * self.backward

    def __str__(self) -> str:
        counted = [
            f"{factor if factor > 1 else ''}{letter}"
            for factor, letter in ((self.per_parameter, "n"), (self.per_sample, "m"))
            if factor
        ]
        text = " + ".join([*counted, str(self.fixed)])
        passes = {0: "", 1: " and a backward pass"}.get(self.backward, f" and {self.backward} backward passes")
        return text + passes


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to train, by the name a user types.

    Attributes:
        name: as in ``from hardgrad... import name``.
        package: where it is.
        order: the information it uses.
        idea: what it is, in a line.
        code: how a method is made of it, as an expression or two.
        cost: of a step; None where `price` says it in words.
        samples: directions, pairs or members m as `code` draws them.
        price: cost in words.
        fits: the architectures it is made for; none stands for all.
    """

    name: str
    package: str
    order: Order
    idea: str
    code: str
    cost: Cost | None = None
    samples: int = 0
    price: str = ""
    fits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.cost is None) == (not self.price):
            raise ValueError(f"{self.name} needs a cost or a price, and not both.")

    @property
    def shown(self) -> str:
        """The name as it is read: a function's with brackets."""
        return self.name if self.name[0].isupper() else f"{self.name}()"

    @property
    def evaluations(self) -> str:
        """The cost of a step in words."""
        return str(self.cost) if self.cost else self.price


@dataclasses.dataclass(frozen=True)
class Family:
    """Methods that use the same information.

    Attributes:
        order: which information.
        title: its name.
        sees: that information, in a few words.
        idea: how it trains.
        when: when to take it.
        price: what it costs, beside evaluations.
        methods: its entry points, the usual one first.
    """

    order: Order
    title: str
    sees: str
    idea: str
    when: str
    price: str
    methods: tuple[Method, ...]


_ZERO = (
    Method(
        "CentralDifference",
        "hardgrad.estimators",
        Order.ZERO,
        "probes each parameter on both sides; draws nothing at random",
        "hg.GradientMethod(hg.CentralDifference(1e-3), optax.adam(1e-2))",
        Cost(1, per_parameter=2),
    ),
    Method(
        "ForwardDifference",
        "hardgrad.estimators",
        Order.ZERO,
        "probes each parameter on one side: half the cost, error O(ε)",
        "hg.GradientMethod(hg.ForwardDifference(1e-3), optax.adam(1e-2))",
        Cost(1, per_parameter=1),
    ),
    Method(
        "SPSA",
        "hardgrad.estimators",
        Order.ZERO,
        "probes all parameters at once, along m directions of random signs",
        "hg.GradientMethod(hg.SPSA(directions=4), optax.adam(1e-2))",
        Cost(1, per_sample=2),
        samples=4,
    ),
    Method(
        "AntitheticNES",
        "hardgrad.estimators",
        Order.ZERO,
        "the gradient of the loss smoothed over σ, from m pairs of samples; sees across steps",
        "hg.GradientMethod(hg.AntitheticNES(0.1, pairs=16), optax.adam(1e-2))",
        Cost(1, per_sample=2),
        samples=16,
    ),
    Method(
        "EvolutionMethod",
        "hardgrad.training",
        Order.ZERO,
        "a population of m that moves towards its better members: CMAES, SepCMAES, SNES, OpenES",
        "hg.EvolutionMethod(hg.SNES(population=32))",
        Cost(1, per_sample=1),
        samples=32,
    ),
)
_ONE = (
    Method(
        "Autodiff",
        "hardgrad.estimators",
        Order.ONE,
        "the derivative by reverse mode, a surrogate's where the model has one",
        "hg.GradientMethod(hg.Autodiff(), optax.adam(1e-2))",
        Cost(1, backward=1),
    ),
    Method(
        "SuperSpike",
        "hardgrad.spiking",
        Order.ONE,
        "a surrogate with tails, the default of every neuron: small gradients far from the threshold too",
        "hardgrad.spiking.LIF(64, surrogate=SuperSpike()), trained by hg.Autodiff()",
        Cost(1, backward=1),
        fits=("lif",),
    ),
    Method(
        "run",
        "hardgrad.spiking",
        Order.ONE,
        "through time with less memory: segment= keeps √T states, truncate= cuts the past off",
        "hardgrad.spiking.run(network, inputs, segment=16), trained by hg.Autodiff()",
        price="1 and a backward pass; a second forward pass with segment=",
        fits=("lif", "state-space"),
    ),
)
_MIXED = (
    Method(
        "Hybrid",
        "hardgrad.estimators",
        Order.MIXED,
        "a gradient, and across it what m pairs of samples find, at a fraction of its length",
        "hg.GradientMethod(hg.Hybrid(hg.Autodiff(), hg.AntitheticNES(0.1)), optax.adam(1e-2))",
        Cost(2, per_sample=2, backward=1),
        samples=16,
    ),
    Method(
        "GuidedES",
        "hardgrad.estimators",
        Order.MIXED,
        "samples along a gradient and across it: the slope along it is measured, not believed",
        "hg.GradientMethod(hg.GuidedES(hg.Autodiff(), 0.1), optax.adam(1e-2))",
        Cost(1, per_sample=2, backward=1),
        samples=16,
    ),
    Method(
        "Blocks",
        "hardgrad.estimators",
        Order.MIXED,
        "an estimator for each block of parameters, order 0 only where there is no gradient; Every gives turns",
        'hg.GradientMethod(hg.Blocks({"delay": hg.AntitheticNES(0.5), ...: hg.Autodiff()}), optax.adam(1e-2))',
        Cost(2, per_sample=2, backward=1),
        samples=16,
    ),
)
_LOCAL = (
    Method(
        "EProp",
        "hardgrad.spiking",
        Order.LOCAL,
        "eligibility traces that run forward with the network, times a learning signal",
        "hardgrad.spiking.EProp() as the objective of hg.Autodiff()",
        price="1, traces included; no backward pass over time",
        fits=("lif",),
    ),
    Method(
        "FeedbackLinear",
        "hardgrad.spiking",
        Order.LOCAL,
        "feedback alignment: errors travel back through fixed random weights",
        "hardgrad.spiking.FeedbackLinear(64, 10, key=key) in the place of Linear, with hg.Autodiff()",
        Cost(1, backward=1),
    ),
    Method(
        "SyntheticGradients",
        "hardgrad.spiking",
        Order.LOCAL,
        "segments of time trained apart: a small network predicts the gradient from the future",
        "hardgrad.spiking.SyntheticGradients(segment=16) as the objective of hg.Autodiff()",
        price="1 and a backward pass, a segment at a time, and the predictor's own",
        fits=("lif", "state-space"),
    ),
)
_TRANSFER = (
    Method(
        "convert",
        "hardgrad.spiking",
        Order.TRANSFER,
        "a trained ReLU network becomes a spiking one, its thresholds balanced on data",
        "hardgrad.spiking.convert(network, inputs)",
        price="none: one pass over some hundreds of samples",
        fits=("lif",),
    ),
    Method(
        "quantise",
        "hardgrad.spiking",
        Order.TRANSFER,
        "weights of a few bits, trained through their rounding",
        "hardgrad.spiking.quantise(network, bits=4), trained by hg.Autodiff()",
        Cost(1, backward=1),
    ),
)

FAMILIES = (
    Family(
        Order.ZERO,
        "Evolution and differences",
        "values of the loss",
        "Try parameters near the present ones and move towards what did better.",
        "There is no derivative, or it is of the wrong thing. Some thousand parameters at most, and an objective that"
        " is cheap enough to be tried many times.",
        "Differences cost evaluations with every parameter; samples cost variance, which grows as n/m.",
        _ZERO,
    ),
    Family(
        Order.ONE,
        "Gradients",
        "derivatives, true or surrogate",
        "Differentiate the objective; where a spike has no derivative, put a surrogate in its place.",
        "There is a derivative that points where it should. The default: the others have to beat it.",
        "Memory grows with the steps of time. A surrogate is biased, and its width is a setting.",
        _ONE,
    ),
    Family(
        Order.MIXED,
        "Hybrids",
        "derivatives and values",
        "Take the gradient for what it knows, and sample what it does not.",
        "The gradient is zero on some of the parameters, or its slope is not to be believed.",
        "Samples on top of a gradient. Where the gradient was right, they add noise and nothing else.",
        _MIXED,
    ),
    Family(
        Order.LOCAL,
        "Local rules",
        "what one unit can see",
        "Replace the backward pass over time or layers by signals that are there when they are needed.",
        "No backward pass is possible: memory, a stream without end, a chip that learns.",
        "The gradient is approximate by design; rules are made for an architecture.",
        _LOCAL,
    ),
    Family(
        Order.TRANSFER,
        "Transfer",
        "another, trained model",
        "Train something easier, then turn it into what is wanted.",
        "An easier model of the same task exists, or weights must end in a few bits.",
        "What the source cannot do, the result cannot. Converted networks need many steps of time.",
        _TRANSFER,
    ),
)
"""In the order in which they are listed."""


def family(order: Order) -> Family:
    """The family of an order."""
    return next(one for one in FAMILIES if one.order is order)


def method(name: str) -> Method:
    """The method of a name.

    Raises:
        KeyError: there is none.
    """
    for one in FAMILIES:
        for entry in one.methods:
            if entry.name == name:
                return entry
    raise KeyError(name)
