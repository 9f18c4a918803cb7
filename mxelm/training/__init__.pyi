from .checkpoint import KIND, load_parameters
from .labels import class_numbers, require_classes, require_one_hot
from .loop import NotFinite, accuracy, classify, fit
from .recipes import Growing, flip_and_crop, steps, warmup_linear
from .settling import settle

__all__ = ["KIND", "Growing", "NotFinite", "accuracy", "class_numbers", "classify", "fit", "flip_and_crop",
           "load_parameters", "require_classes", "require_one_hot", "settle", "steps", "warmup_linear"]
