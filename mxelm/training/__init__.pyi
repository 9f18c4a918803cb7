from .checkpoint import KIND, load_parameters
from .labels import class_numbers, require_classes, require_one_hot
from .loop import NotFinite, accuracy, classify, fit
from .recipes import flip_and_crop, steps, warmup_linear

__all__ = ["KIND", "NotFinite", "accuracy", "class_numbers", "classify", "fit", "flip_and_crop", "load_parameters",
           "require_classes", "require_one_hot", "steps", "warmup_linear"]
