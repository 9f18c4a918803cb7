"""Gluon networks trained: one loop, its checkpoints, the labels it takes, the recipes that papers share."""
from mxelm.training.checkpoint import KIND, load_parameters
from mxelm.training.labels import class_numbers, require_classes, require_one_hot
from mxelm.training.loop import NotFinite, accuracy, classify, fit
from mxelm.training.recipes import flip_and_crop, steps, warmup_linear

__all__ = ["KIND", "NotFinite", "accuracy", "class_numbers", "classify", "fit", "flip_and_crop", "load_parameters",
           "require_classes", "require_one_hot", "steps", "warmup_linear"]
