"""The settings of the trainer: the published names, defaults and refusals; and curricula of loss weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import rational_golden as golden

from hardgrad.core import Progress, UsageError
from hardgrad.rational import GradientPolicy, LossWeightsCurriculum, TrainingConfig
from hardgrad.schedules import LinearRamp, UniformDraw

REFUSED = (UsageError, TypeError)  # a wrong kind is first found by the type checker that runs with the tests


@pytest.mark.parametrize("case", golden.cases("training_config_defaults"))
def test_every_published_setting_has_its_default(case: Any) -> None:
    config = TrainingConfig()
    for name, value in case["out"].items():
        published = value.removeprefix("torch.") if isinstance(value, str) else value
        assert getattr(config, name) == published
    names = [field.name for field in dataclasses.fields(config)]
    assert names[: len(case["out"])] == list(case["out"])


@pytest.mark.parametrize("case", golden.cases("training_config_errors"), ids=lambda c: str(c["kwargs"]))
def test_what_is_published_as_wrong_is_refused(case: Any) -> None:
    given = {}
    for name, text in case["kwargs"].items():
        try:
            given[name] = json.loads(text.replace("'", '"'))
        except json.JSONDecodeError:
            given[name] = text.removeprefix("torch.")
    assert case["out"]["raises"] in ("ValueError", "TypeError")
    with pytest.raises(REFUSED):
        TrainingConfig(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau_train_min": 0.0, "tau_train_max": 0.0}, "tau_train_min must be a finite number above 0; got 0.0"),
        ({"tau_infer": 1e-3}, "thresholds must be in the order tau_infer <= tau_train_min <= tau_train_max"),
        ({"coverage_threshold": -0.1}, "coverage_threshold must be a finite number, at least 0"),
        ({"coverage_threshold": 1.1}, r"coverage_threshold must lie in \[0, 1\]"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0; got nan"),
        ({"loss_weights": {"sign": float("inf")}}, "the weight of 'sign' must be a finite number, at least 0; got inf"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1"),
        ({"checkpoint_keep": 0}, "checkpoint_keep must be a whole number, at least 1"),
    ],
)
def test_a_message_names_value_and_remedy(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"log_hook": 3},
        {"gradient_policy": "clamp"},
        {"loss_curriculum": {"sign": 1.0}},
        {"use_amp": 1},
        {"execution": "fast"},
        {"loss_weights": [1.0]},
        {"max_epochs": True},
    ],
)
def test_wrong_kinds_are_refused(given: Any) -> None:
    with pytest.raises(REFUSED):
        TrainingConfig(**given)


def test_use_amp_decides() -> None:
    assert TrainingConfig(mixed_precision=True).precision == "float16"
    assert TrainingConfig(mixed_precision=True, use_amp=False).precision is None
    assert TrainingConfig(use_amp=True, amp_dtype="bfloat16").precision == "bfloat16"
    assert TrainingConfig(use_amp=True).mixed_precision is True


def test_validation_takes_the_mean_threshold() -> None:
    assert TrainingConfig(tau_train_min=1e-4, tau_train_max=3e-4).tau_eval == pytest.approx(2e-4, rel=1e-15)


def test_the_settings_are_json() -> None:
    config = TrainingConfig(
        gradient_policy=GradientPolicy.PROJECT,
        loss_weights={"margin": 1},
        loss_curriculum=LossWeightsCurriculum({"sign": LinearRamp(0.0, 1.0, over=4)}),
        log_hook=print,
    )
    described = json.loads(json.dumps(config.described()))
    assert described["gradient_policy"] == "project"
    assert described["loss_weights"] == {"margin": 1}
    assert described["loss_curriculum"] == {"sign": "LinearRamp(start=0.0, end=1.0, over=4, after=0, unit='epoch')"}
    assert described["tau_infer"] == 1e-6
    assert "log_hook" not in described


# -- curricula ---------------------------------------------------------------------------------------


def ours(case: Any) -> LinearRamp:
    """A published ramp, whose ends are inclusive, in the library's terms."""
    first, last = case["start_epoch"], case["end_epoch"]
    after = first if last > first else first + 1
    return LinearRamp(case["start_value"], case["end_value"], over=last - first, after=after)


@pytest.mark.parametrize("case", golden.cases("linear_ramp"))
def test_the_published_ramp(case: Any) -> None:
    ramp = ours(case)
    assert [ramp(Progress(epoch=n, step=n, epochs=9)) for n in case["epochs"]] == case["out"]


@pytest.mark.parametrize("case", golden.cases("linear_ramp_error"))
def test_a_ramp_that_ends_before_it_starts(case: Any) -> None:
    assert case["out"]["raises"] == "ValueError"
    with pytest.raises(UsageError, match="over must be a whole number, at least 0; got -"):
        LinearRamp(0.0, 1.0, over=-1)


@pytest.mark.parametrize("case", golden.cases("curriculum"))
def test_the_published_curriculum(case: Any) -> None:
    curriculum = LossWeightsCurriculum({"sign": LinearRamp(0.0, 1.0, over=4)})
    assert curriculum.weights(case["epoch"], case["base"]) == case["out"]
    assert curriculum.weights(4) == {"sign": 1.0}


def test_a_curriculum_of_steps_has_no_weight_of_an_epoch() -> None:
    by_step = LossWeightsCurriculum({"sign": UniformDraw(0.0, 1.0)})
    with pytest.raises(UsageError, match="the curriculum of 'sign' changes within an epoch"):
        by_step.weights(0)
    with pytest.raises(REFUSED):
        LossWeightsCurriculum({"sign": "up"})  # type: ignore[dict-item]
