"""Symbol JSON of strangers: brought to one form and checked entry by entry before MXNet sees it, which checks little.

What MXNet then gets is this form alone: operators, names, attributes, edges and its version, nothing else of the file.
"""
from __future__ import annotations

import ctypes
import json
import logging
import os
import re
from functools import lru_cache

from mxelm.errors import FileError
from mxelm.files import parse_json
from mxelm.runtime import mx
from mxelm.schemas import check

_log = logging.getLogger(__name__)

# No layers of a network: they follow addresses, read files, train, need a graph of their own or integers
_NO_LAYERS = re.compile(
    r"_(Native|NDArray|CustomFunction|CachedOp|FusedOp|foreach|cond|while_loop|sg_|cv|imdecode|backward|broadcast_backward|"
    r"rnn_param_concat|image_(random|flip|adjust|resize|crop)|npi_[hvd]split|contrib_(backward|dgl|quantized|calibrate|group_adagrad))|"
    r"(.*_|)(sgd|mom|adam|adamw|adagrad|ftrl|ftml|rmsprop|rmspropalex|signum|signsgd|lamb|lars)_update|.*_update_phase\d|"
    r"(preloaded_)?multi_|reset_arrays|im2col|col2im")
# Attributes by which MXNet divides, or up to which it counts, without looking: least and most
_COUNTS = {**dict.fromkeys(("num_group", "num_groups", "block_size"), (1, 1 << 20)),
           **dict.fromkeys(("num_args", "num_outputs", "sections", "num_arrays"), (0, 1 << 12))}
_FAR = re.compile(r"(?<![\d.e-])-?\d{9,}(?![\d.])")  # an axis or a place that MXNet may go to without looking
_FREE = ("begin", "end", "scalar", "workspace", "a_min", "a_max", "value", "low", "high")  # but for these
_CONTROLS = re.compile(r"(?<!\\)(\\\\)*\\(u00[01]|[bfnrt])")  # in JSON's writing, of which MXNet knows half
_HIDDEN = re.compile(r"(^|_)(ctx_group|lr_mult|wd_mult|force_mirroring|mirror_stage)$")  # of any node, in old files


def read_graph(path: str | os.PathLike, content: bytes) -> dict:
    """The graph in the bytes of a symbol file, as a dict: nodes (op, name, attrs, inputs), heads, attrs.

    A node's "listing" tells whether its file lists every option ("param", until 2016). Raises FileError for content
    that is no symbol and for an entry that names a node which is not there.
    """
    graph = parse_json(content, path)
    check("symbol", graph, path)
    if _CONTROLS.search(json.dumps(graph["nodes"])):
        raise FileError(f"{path} is damaged or not an MXNet symbol: it holds control characters in its names")
    nodes = [_node(node) for node in graph["nodes"]]
    for i, node in enumerate(nodes):
        if any(entry[0] >= i for entry in node["inputs"]):
            raise FileError(f"{path} is damaged or not an MXNet symbol: {node['name']} reads what comes not before it")
        if node["op"] == "null" and node["inputs"]:
            raise FileError(f"{path} is damaged or not an MXNet symbol: the variable {node['name']} has inputs")
    if any(head[0] >= len(nodes) for head in graph["heads"]):
        raise FileError(f"{path} is damaged or not an MXNet symbol: it ends in a node that is not there")
    version = graph.get("attrs", {}).get("mxnet_version")
    known = isinstance(version, list) and len(version) == 2 and version[0] == "int" and type(version[1]) is int
    return {"nodes": nodes, "heads": [[*head[:2], 0] for head in graph["heads"]],
            "attrs": {"mxnet_version": version} if known and 0 <= version[1] < 1 << 31 else {}}


def _node(node):
    attributes = {}
    for key in ("attr", "attrs", "param"):
        attributes.update(node.get(key) or {})
    return {"op": node["op"], "name": node["name"], "attrs": attributes, "listing": "param" in node,
            "inputs": [[*entry[:2], 0] for entry in node["inputs"]]}


def _made(node):
    """The number of a node's outputs, or why MXNet cannot compute it."""
    attributes = tuple((key, value) for key, value in sorted(node["attrs"].items()) if not _HIDDEN.search(key))
    return _alone(node["op"], attributes, len(node["inputs"]))


@lru_cache(maxsize=4096)
def _alone(op, attributes, n_inputs):
    if _NO_LAYERS.match(op):
        return f"{op} is no layer of a network"
    for key, value in attributes:
        least, most = _COUNTS.get(key, (None, None))
        if least is not None and not (re.fullmatch(r"\s*\d{1,9}\s*", value) and least <= int(value) <= most):
            return f"{key} is {value}"
        if key not in _FREE and _FAR.search(value):
            return f"{key} is {value}"
    attributes = dict(attributes)
    if op == "UpSampling" and attributes.get("sample_type") == "bilinear" and attributes.get("num_filter", "0") == "0":
        return "num_filter is missing"
    try:
        composed = _composed(op, attributes, n_inputs)
    except mx.MXNetError as error:
        return str(error).strip().splitlines()[-1].split("]: ")[-1]
    missing = len(composed.list_arguments()) - n_inputs  # loading JSON would leave them out, and the process may die
    return f"{missing} of its inputs are missing" if missing > 0 else len(composed.list_outputs())


def _composed(op, attributes, n_inputs):
    """The Symbol of one operator over variables; those that it needs beyond `n_inputs` are added by MXNet."""
    handle = mx.base.OpHandle()
    mx.base.check_call(mx.base._LIB.NNGetOpHandle(mx.base.c_str(op), ctypes.byref(handle)))
    inputs = [mx.sym.var(f"input{i}") for i in range(n_inputs)]
    return mx.symbol._internal._symbol_creator(handle.value, inputs, None, list(attributes), list(attributes.values()),
                                               "alone", False)


def computable(path: str | os.PathLike, graph: dict, cut: str | None) -> dict:
    """The part of a graph that MXNet can compute; what reads an operator that it cannot is left away, with a warning.

    cut: name of the output, or of the layer, that is wanted of the graph; None for all of it. Raises FileError where
    that is left away, and for an entry that names an output which is not there.
    """
    nodes, why = graph["nodes"], {}
    made = [1 if node["op"] == "null" else _made(node) for node in nodes]
    for index, output, _ in [*graph["heads"], *(entry for node in nodes for entry in node["inputs"])]:
        if isinstance(made[index], int) and output >= made[index]:
            raise FileError(f"{path} is damaged or not an MXNet symbol: output {output} of {nodes[index]['name']} is "
                            f"read, which has {made[index]}")
    for i, node in enumerate(nodes):
        if not isinstance(made[i], int):
            why[i] = f"{node['name']} ({node['op']}: {made[i]})"
        elif any(entry[0] in why for entry in node["inputs"]):
            why[i] = next(why[entry[0]] for entry in node["inputs"] if entry[0] in why)
    if not why:
        return graph
    ends = [*graph["heads"], *(entry for i in why for entry in nodes[i]["inputs"])]
    kept = dict.fromkeys(tuple(end) for end in ends if end[0] not in why and nodes[end[0]]["op"] != "null")
    reason = next(iter(why.values()))
    lost = {name for i in why for name in (nodes[i]["name"], f"{nodes[i]['name']}_output")}
    if cut is None or cut in lost or not kept:
        raise FileError(f"{path} is damaged or not a symbol that MXNet 1.9.1 knows: it cannot compute {reason}; cut "
                        "the network before that (cut, --cut)")
    _log.warning("%s: MXNet 1.9.1 cannot compute %s: the network ends before it", path, reason)
    return {**graph, "heads": [list(head) for head in kept]}


def build(graph: dict) -> mx.sym.Symbol:
    """The Symbol of a graph as `read_graph` gives it, of the nodes that its heads need."""
    needed, waiting = set(), [head[0] for head in graph["heads"]]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting += [entry[0] for entry in graph["nodes"][index]["inputs"]]
    place = {old: new for new, old in enumerate(sorted(needed))}
    nodes = [{"op": node["op"], "name": node["name"], **({"attrs": node["attrs"]} if node.get("attrs") else {}),
              "inputs": [[place[entry[0]], entry[1], 0] for entry in node["inputs"]]}
             for node in map(graph["nodes"].__getitem__, sorted(needed))]
    return mx.sym.load_json(json.dumps({
        "nodes": nodes, "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [[place[head[0]], head[1], 0] for head in graph["heads"]], "attrs": graph["attrs"]},
        ensure_ascii=False))
