"""What can be converted at all: opsets, and kinds of nodes that have no counterpart whatever they hold."""
from __future__ import annotations

import onnx

from mxelm.backbones.onnx.values import Unsupported
from mxelm.errors import InputError

LOWEST_OPSET, HIGHEST_OPSET = 6, 21
_QUANTISED = ("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses; InputError where it is not one of 6 to 21."""
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    version = versions.get("ai.onnx")
    if version is None:
        raise InputError(f"it uses operators of {', '.join(versions) or 'no domain'} and none of ONNX's own")
    if not LOWEST_OPSET <= version <= HIGHEST_OPSET:
        raise InputError(f"it is of opset {version}, and {LOWEST_OPSET} to {HIGHEST_OPSET} are known: export it again "
                         "with opset_version=17")
    return version


def refuse_foreign(node: onnx.NodeProto) -> None:
    """Raise Unsupported for another domain, control flow, quantised weights and sequences."""
    if node.domain not in ("", "ai.onnx"):
        raise Unsupported(f"its domain {node.domain} is not known")
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
        raise Unsupported("control flow has no counterpart in a Symbol")
    if node.op_type.startswith(_QUANTISED):
        raise Unsupported("its weights are quantised: export the model in float32")
    if "Sequence" in node.op_type or "Optional" in node.op_type:
        raise Unsupported("a Symbol knows arrays alone, no sequences")
