"""Rational models: outputs P/Q whose poles are part of the answer, in the algebra of signed common meadows.

While training a model emits tuples (P, Q) and never divides; deployed, it divides or says ⊥.
"""

from typing import TYPE_CHECKING, Any

from ._algebra._array import SCMArray as SCMArray
from ._algebra._functions import scm_add as scm_add
from ._algebra._functions import scm_cos as scm_cos
from ._algebra._functions import scm_div as scm_div
from ._algebra._functions import scm_exp as scm_exp
from ._algebra._functions import scm_inv as scm_inv
from ._algebra._functions import scm_log as scm_log
from ._algebra._functions import scm_mul as scm_mul
from ._algebra._functions import scm_neg as scm_neg
from ._algebra._functions import scm_pow as scm_pow
from ._algebra._functions import scm_sin as scm_sin
from ._algebra._functions import scm_sqrt as scm_sqrt
from ._algebra._functions import scm_sub as scm_sub
from ._algebra._functions import scm_tan as scm_tan
from ._algebra._ieee import from_ieee as from_ieee
from ._algebra._ieee import to_ieee as to_ieee
from ._algebra._projective import GaugePolicy as GaugePolicy
from ._algebra._projective import Projective as Projective
from ._algebra._projective import ProjectiveNormalize as ProjectiveNormalize
from ._algebra._projective import decode as decode
from ._algebra._projective import encode as encode
from ._algebra._projective import projectively_equal as projectively_equal
from ._algebra._projective import renormalize as renormalize
from ._algebra._sign import HystereticOrientationTracker as HystereticOrientationTracker
from ._algebra._sign import hysteretic_weak_sign as hysteretic_weak_sign
from ._algebra._sign import weak_sign as weak_sign
from ._algebra._targets import STATUSES as STATUSES
from ._algebra._targets import Targets as Targets
from ._algebra._targets import lift_semantic_targets as lift_semantic_targets
from ._algebra._targets import lift_targets as lift_targets
from ._algebra._value import MeadowOverflowError as MeadowOverflowError
from ._algebra._value import SCMValue as SCMValue
from ._algebra._value import scm_bottom as scm_bottom
from ._algebra._value import scm_complex as scm_complex
from ._algebra._value import scm_real as scm_real
from ._decisions._calibrate import assess_threshold as assess_threshold
from ._decisions._calibrate import calibrate as calibrate
from ._decisions._calibration import Calibration as Calibration
from ._decisions._censored import CensoredClass as CensoredClass
from ._decisions._censored import CensoredResult as CensoredResult
from ._decisions._censored import decode_strict_censored_3way as decode_strict_censored_3way
from ._decisions._decode import InferenceConfig as InferenceConfig
from ._decisions._decode import StrictResult as StrictResult
from ._decisions._decode import strict_inference as strict_inference
from ._decisions._fallbacks import reject_on_bottom as reject_on_bottom
from ._decisions._fallbacks import reject_on_gap as reject_on_gap
from ._decisions._fallbacks import route_to_analytic_solver as route_to_analytic_solver
from ._decisions._fallbacks import safe_sentinel as safe_sentinel
from ._decisions._metrics import BinarySummary as BinarySummary
from ._decisions._metrics import OperatingPoint as OperatingPoint
from ._decisions._metrics import PoleMetrics as PoleMetrics
from ._decisions._metrics import PRCurve as PRCurve
from ._decisions._metrics import binary_summary as binary_summary
from ._decisions._metrics import fnr_at_fpr as fnr_at_fpr
from ._decisions._metrics import pole_metrics_2d as pole_metrics_2d
from ._decisions._metrics import pr_auc as pr_auc
from ._decisions._metrics import pr_curve as pr_curve
from ._decisions._metrics import roc_auc as roc_auc
from ._decisions._monitor import StrictInferenceMonitor as StrictInferenceMonitor
from ._decisions._monitor import strict_inference_rates as strict_inference_rates
from ._decisions._proportion import Proportion as Proportion
from ._decisions._scores import rejection_score as rejection_score
from ._decisions._strict_model import StrictModel as StrictModel
from ._decisions._sweep import TauSweep as TauSweep
from ._decisions._sweep import tau_infer_sweep as tau_infer_sweep
from ._decisions._sweep import tau_infer_sweep_report as tau_infer_sweep_report
from ._layers._bases import AbstractBasis as AbstractBasis
from ._layers._bases import ChebyshevBasis as ChebyshevBasis
from ._layers._bases import CustomBasis as CustomBasis
from ._layers._bases import MonomialBasis as MonomialBasis
from ._layers._heads import AngularProjectiveHead as AngularProjectiveHead
from ._layers._heads import ProjectiveRationalMultiHead as ProjectiveRationalMultiHead
from ._layers._heads import bottom_capability as bottom_capability
from ._layers._heads import check_bottom_capability as check_bottom_capability
from ._layers._models import ProjectiveMLP as ProjectiveMLP
from ._layers._models import RationalMLP as RationalMLP
from ._layers._norm import SCMNorm as SCMNorm
from ._layers._norm import scm_norm as scm_norm
from ._layers._rational_layer import RationalLayer as RationalLayer
from ._layers._softmax import SCMSoftmax as SCMSoftmax
from ._layers._softmax import SoftmaxResult as SoftmaxResult
from ._layers._softmax import scm_softmax as scm_softmax
from ._losses._coverage import batch_coverage as batch_coverage
from ._losses._coverage import coverage as coverage
from ._losses._coverage import rejection_loss as rejection_loss
from ._losses._coverage import soft_coverage_loss as soft_coverage_loss
from ._losses._coverage import soft_rejection_loss as soft_rejection_loss
from ._losses._losses import chordal_loss as chordal_loss
from ._losses._losses import implicit_loss as implicit_loss
from ._losses._losses import margin_loss as margin_loss
from ._losses._losses import scm_separation_losses as scm_separation_losses
from ._losses._objective import SCMObjective as SCMObjective
from ._losses._orientation import sign_consistency_loss as sign_consistency_loss
from ._losses._training_loss import LossConfig as LossConfig
from ._losses._training_loss import SCMTrainingLoss as SCMTrainingLoss
from ._policies import GradientPolicy as GradientPolicy
from ._policies import apply_policy as apply_policy
from ._policies import current_policy as current_policy
from ._policies import get_policy as get_policy
from ._policies import gradient_policy as gradient_policy
from ._policies import policy_registry_snapshot as policy_registry_snapshot
from ._policies import register_policy as register_policy
from ._policies import restore_policy_registry as restore_policy_registry
from ._policies import with_policy as with_policy
from ._training._config import TrainingConfig as TrainingConfig
from ._training._curriculum import LossWeightsCurriculum as LossWeightsCurriculum
from ._training._metric_log import JsonlLogger as JsonlLogger
from ._training._metric_log import metric_log_record as metric_log_record
from ._training._metric_log import read_jsonl as read_jsonl
from ._training._sampler import AdaptiveSampler as AdaptiveSampler
from ._training._sampler import ema_update as ema_update
from ._training._sampler import sampling_weights as sampling_weights
from ._training._sampler import singularity_probability as singularity_probability
from ._training._scm_trainer import SCMTrainer as SCMTrainer

if not TYPE_CHECKING:  # which would otherwise accept any name
    _OURS = {
        "GradientPolicyConfig": "GradientPolicy",
        "LinearRamp": "hardgrad.LinearRamp",
        "ProjectiveSample": "Projective",
        "RRProjectiveRationalModel": "RationalMLP",
        "SCMInferenceWrapper": "StrictModel",
        "SCMRationalLayer": "RationalLayer",
        "SemanticTargets": "Targets",
        "apply_policy_vectorized": "apply_policy",
        "export_bundle": "hardgrad.export.export_bundle",
        "implicit_loss_jax": "implicit_loss",
        "load_onnx_runtime_bundle": "hardgrad.export.load_bundle",
        "perturbed_threshold": "hardgrad.UniformDraw",
        "strict_inference_jax": "strict_inference",
        "strict_inference_numpy": "strict_inference",
        "tau_infer_sweep_from_q_abs": "tau_infer_sweep",
    }

    def __getattr__(name: str) -> Any:
        """Published names that are others here."""
        hint = f"; here it is {_OURS[name]}" if name in _OURS else ""
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'{hint}", name=name)
