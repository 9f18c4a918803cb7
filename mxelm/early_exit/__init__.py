"""Paper 4: sequential analysis: a network that answers at the first of its exits that is sure (Savchenko)."""
from mxelm.early_exit.cascade import Answers, Cascade
from mxelm.early_exit.estimator import EarlyExitClassifier
from mxelm.early_exit.files import load, save
from mxelm.early_exit.finetune import HeadsOnAllExits, all_heads
from mxelm.early_exit.fitting import Recipe, fit, fit_rows
from mxelm.early_exit.placement import place

__all__ = ["Answers", "Cascade", "EarlyExitClassifier", "HeadsOnAllExits", "Recipe", "all_heads", "fit", "fit_rows",
           "load", "place", "save"]
