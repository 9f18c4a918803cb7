"""Whether a network says the same in MXNet and in onnxruntime."""
from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from onnx.reference import ReferenceEvaluator

from mxelm.errors import EnvironmentProblem, InputError
from mxelm.graphs import bind
from mxelm.runtime import context, mx

if TYPE_CHECKING:
    import onnx
    import onnxruntime


def runtime() -> ModuleType | None:
    """onnxruntime's module, None where it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        return None


def session(model: bytes | str | os.PathLike, *, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An onnxruntime.InferenceSession over a model's path or bytes, optimised at the highest level.

    threads: of one operator; None leaves them to onnxruntime. Raises EnvironmentProblem where it is not installed,
    InputError for a model that it refuses.
    """
    onnxruntime = runtime()
    if onnxruntime is None:
        raise EnvironmentProblem("onnxruntime is not installed: pip install 'mxelm[onnx]'")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if threads:
        options.intra_op_num_threads = threads
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints errors besides raising them
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds, with no common one below it
        raise InputError(f"onnxruntime refuses the model ({type(error).__name__}: "
                         f"{str(error).strip().splitlines()[0]})") from error


def outputs(model: onnx.ModelProto, place: str | os.PathLike | None, batches: Sequence[dict]) -> np.ndarray:
    """The model's first output for each batch, a dict of input -> array, one behind the other.

    place: the model's file, None for a model in memory alone. What onnxruntime has no layers for, such as float64, is
    computed by ONNX's reference, slowly.
    """
    try:
        run = session(model.SerializeToString() if place is None else str(place)).run
        return np.concatenate([run(None, batch)[0] for batch in batches])
    except InputError as error:
        if type(error.__cause__).__name__ == "NotImplemented":
            with contextlib.suppress(Exception):  # the reference raises anything for what it cannot do
                return np.concatenate([ReferenceEvaluator(model).run(None, batch)[0] for batch in batches])
        raise


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of two arrays over the largest number of the second."""
    got, wanted = np.asarray(got, np.float64).reshape(-1), np.asarray(wanted, np.float64).reshape(-1)
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))


def forward(symbol: mx.sym.Symbol, arg_params: dict, aux_params: dict, batch: np.ndarray) -> list:
    """Outputs of a Symbol of "data" for one float32 batch: a list of arrays; InputError where MXNet cannot."""
    module = bind(symbol, {"data": batch.shape}, arg_params, aux_params, ctx=context())
    try:
        module.forward(mx.io.DataBatch([mx.nd.array(batch)]), is_train=False)
        return [output.asnumpy() for output in module.get_outputs()]
    except mx.MXNetError as error:
        raise InputError(f"MXNet cannot run the network: {str(error).strip().splitlines()[-1]}") from None
