from .accumulator import FusedAccumulator
from .criteria import cross_validate, generalized_cross_validation, grid_mse
from .estimators import FusedELMClassifier, FusedELMRegressor
from .evaluation import evaluate
from .job import Fit, fit
from .passes import accumulate, balanced
from .predictor import Predictor
from .projection import Projection, calibrate
from .row_estimators import ELMClassifier, ELMRegressor
from .selection import Selection, select
from .solver import solve
from .state import ELMState, merge
from .symbol import fuse

__all__ = ["ELMClassifier", "ELMRegressor", "ELMState", "Fit", "FusedAccumulator", "FusedELMClassifier",
           "FusedELMRegressor", "Predictor", "Projection", "Selection", "accumulate", "balanced", "calibrate",
           "cross_validate", "evaluate", "fit", "fuse", "generalized_cross_validation", "grid_mse", "merge", "select",
           "solve"]
