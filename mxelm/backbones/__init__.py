"""Networks in: checkpoints of any age, known weights, the Inception21k symbol, GluonCV's zoo and any HybridBlock.

Names are handed out lazily: importing this package loads no MXNet.
"""
import importlib

_HOMES = {
    "Backbone": "backbone",
    "load": "loading",
    "from_block": "gluon",
    "zoo": "gluon",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "fetch": "fetching",
    "verify": "verification",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'mxelm.backbones' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mxelm.backbones.{_HOMES[name]}"), name)


def __dir__():
    return sorted(__all__)
