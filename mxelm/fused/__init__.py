"""Paper 1: an Extreme Learning Machine fused into a pre-trained network (Arcada)."""
from mxelm.fused.accumulator import FusedAccumulator
from mxelm.fused.fit import Fit, accumulate, fit
from mxelm.fused.graph import fuse
from mxelm.fused.predictor import Predictor
from mxelm.fused.projection import Projection, calibrate
from mxelm.fused.selection import Selection, select
from mxelm.fused.solver import grid_mse, solve
from mxelm.fused.state import ELMState

__all__ = ["ELMState", "Fit", "FusedAccumulator", "Predictor", "Projection", "Selection", "accumulate", "calibrate",
           "fit", "fuse", "grid_mse", "select", "solve"]
