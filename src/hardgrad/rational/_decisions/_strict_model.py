"""A model together with its decision."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx

from ...core import UsageError, one_of
from ._decode import InferenceConfig, StrictResult, strict_inference
from ._scores import Values, namespace

ThirdOutput = Literal["refuse", "validity", "ignore"]


class StrictModel(eqx.Module):
    """A model together with its decision: what is deployed and exported.

    ``StrictModel(model, config)(x)`` calls the model on the batch and decodes the tuple it returns. It only
    wraps: put dropout or normalisation into inference mode first (`equinox.nn.inference_mode`).

    Attributes:
        model: returns (P, Q), or three outputs (see `third_output`).
        config: thresholds and score.
        third_output: what a third output is. ``"validity"``: an external validity denominator;
            ``"ignore"``: nothing to the decision, such as a pole logit; ``"refuse"``: an error.

    Examples:
        >>> import jax.numpy as jnp
        >>> strict = StrictModel(lambda x: (jnp.ones_like(x), x), InferenceConfig(tau_infer=1e-3))
        >>> strict(jnp.array([0.5, 0.0])).decoded
        Array([ 2., nan], dtype=float32)
    """

    model: Any
    config: InferenceConfig = eqx.field(static=True, default=InferenceConfig())
    third_output: ThirdOutput = eqx.field(static=True, default="refuse")

    def __check_init__(self) -> None:
        one_of("third_output", self.third_output, ThirdOutput)

    def __call__(self, x: Any, validity_denominator: Values | None = None) -> StrictResult:
        """Decode the model's output for `x`.

        Args:
            x: the model's input, a whole batch.
            validity_denominator: Q_v in the shape of Q. It must be finite and at least `tau_infer` in
                magnitude too, and the gap is judged on it; the value is still P/Q. As published.

        Raises:
            UsageError: the model returns something else, Q_v comes twice, or it comes with the
                projective score, which it has no numerator for.
        """
        P, Q, inner = self._outputs(x)
        if inner is not None and validity_denominator is not None:
            raise UsageError("the model returns a validity denominator already; don't give another.")
        validity = validity_denominator if inner is None else inner
        if validity is None:
            return strict_inference(P, Q, self.config)
        if self.config.score != "denominator":
            raise UsageError(
                "a validity denominator has no numerator, so it has no projective score; use score='denominator'."
            )
        tau_infer, tau_train = self.config.thresholds(validity.dtype)
        result = strict_inference(P, Q, self.config, validity_factors=[validity], validity_taus=self.config.tau_infer)
        if tau_train is None:
            return result
        magnitude = namespace(validity).abs(validity)
        gap = (magnitude >= tau_infer) & (magnitude < tau_train) & ~result.bottom_mask
        return StrictResult(**(result.as_dict() | {"gap_mask": gap}))

    def _outputs(self, x: Any) -> tuple[Any, Any, Any | None]:
        outputs = self.model(x)
        if not isinstance(outputs, tuple | list) or len(outputs) not in (2, 3):
            what = f"{len(outputs)} outputs" if isinstance(outputs, tuple | list) else type(outputs).__name__
            raise UsageError(f"a model to decode returns (P, Q); this one returned {what}.")
        if len(outputs) == 3 and self.third_output == "refuse":
            raise UsageError(
                "the model returns a third output: say third_output='validity' if it is a denominator that must "
                "not vanish either, third_output='ignore' if it is no part of the decision."
            )
        third = outputs[2] if len(outputs) == 3 and self.third_output == "validity" else None
        return outputs[0], outputs[1], third
