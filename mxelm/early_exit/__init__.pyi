from .cascade import Answers, Cascade
from .estimator import EarlyExitClassifier
from .files import load, require_place, save
from .finetune import HeadsOnAllExits, all_heads
from .fitting import Recipe, fit, fit_rows
from .placement import place

__all__ = ["Answers", "Cascade", "EarlyExitClassifier", "HeadsOnAllExits", "Recipe", "all_heads", "fit", "fit_rows",
           "load", "place", "require_place", "save"]
