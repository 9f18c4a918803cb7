"""The small engine: a whole image classifier in one small file, built with all that the package has, run by NumPy."""
from mxelm.knn_slicing.engine.classifier import Bank, Engine

__all__ = ["Bank", "Engine"]
