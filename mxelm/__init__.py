"""mxelm: five works on what to do with a convolutional network's features, rebuilt in Apache MXNet 1.9.1.

Importing mxelm is cheap: MXNet and GluonCV load when a name that needs them is first used.
"""
import importlib

__version__ = "0.1.0"

_HOMES = {
    "MxelmError": "mxelm.errors",
    "load_data": "mxelm.data",
    "Dataset": "mxelm.data",
    "Backbone": "mxelm.backbones",
    "load_backbone": "mxelm.backbones",
    "Preprocessing": "mxelm.preprocessing",
    "fuse": "mxelm.fused",
    "FusedAccumulator": "mxelm.fused",
    "ELMState": "mxelm.fused",
    "solve": "mxelm.fused",
    "select": "mxelm.fused",
    "Predictor": "mxelm.fused",
    "ELMClassifier": "mxelm.fused",
    "ELMRegressor": "mxelm.fused",
    "FusedELMClassifier": "mxelm.fused",
    "FusedELMRegressor": "mxelm.fused",
    "SlicedClassifier": "mxelm.knn_slicing",
}
_ORIGINAL_NAMES = {"load_data": "load", "load_backbone": "load"}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'mxelm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), _ORIGINAL_NAMES.get(name, name))


def __dir__():
    return sorted(__all__)
