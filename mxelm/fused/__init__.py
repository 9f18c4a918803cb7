"""Paper 1: an Extreme Learning Machine fused into a pre-trained network (Arcada)."""
from mxelm.fused.accumulator import FusedAccumulator
from mxelm.fused.criteria import cross_validate, generalized_cross_validation, grid_mse
from mxelm.fused.estimators import ELMClassifier, ELMRegressor, FusedELMClassifier, FusedELMRegressor
from mxelm.fused.job import Fit, fit
from mxelm.fused.passes import accumulate, balanced
from mxelm.fused.predictor import Predictor
from mxelm.fused.projection import Projection, calibrate
from mxelm.fused.selection import Selection, select
from mxelm.fused.solver import solve
from mxelm.fused.state import ELMState, merge
from mxelm.fused.symbol import fuse

__all__ = ["ELMClassifier", "ELMRegressor", "ELMState", "Fit", "FusedAccumulator", "FusedELMClassifier",
           "FusedELMRegressor", "Predictor", "Projection", "Selection", "accumulate", "balanced", "calibrate",
           "cross_validate", "fit", "fuse", "generalized_cross_validation", "grid_mse", "merge", "select", "solve"]
