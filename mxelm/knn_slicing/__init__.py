"""Paper 2: a k-NN classifier in place of a network's dense layers, its kernels evolved (Radu).

Names are handed out lazily: the small engine, which lives here too, runs without MXNet.
"""
import importlib

_HOMES = {
    "KernelFitness": "mxelm.knn_slicing.evolution.fitness",
    "Kernels": "mxelm.knn_slicing.kernels",
    "SlicedClassifier": "mxelm.knn_slicing.sliced",
    "evolve": "mxelm.knn_slicing.evolution.search",
    "network": "mxelm.knn_slicing.networks",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'mxelm.knn_slicing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return sorted(__all__)
