"""Networks from and to ONNX. Needs the extra: pip install 'mxelm[onnx]'.

Read `graph.py` first, which walks over a model; `operators/` says what each node becomes.
"""
from __future__ import annotations

import importlib
from typing import Any

from mxelm.errors import EnvironmentProblem

_HOMES = {"convert": "converting", "Converted": "converting", "export": "exporting"}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mxelm.backbones.onnx' has no attribute {name!r}")
    require_onnx()
    return getattr(importlib.import_module(f"mxelm.backbones.onnx.{_HOMES[name]}"), name)


def require_onnx() -> None:
    """Raise EnvironmentProblem where the onnx package is not installed."""
    try:
        importlib.import_module("onnx.reference")
    except ImportError as error:
        raise EnvironmentProblem(f"ONNX is not at hand ({error}): pip install 'mxelm[onnx]'") from None


def __dir__() -> list[str]:
    return sorted(__all__)
