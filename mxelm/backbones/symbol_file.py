"""Symbol JSON of any age: what MXNet's own loader loses or leaves different is repaired before, and logged.

- BatchNorm with 3 inputs (aux states were implicit): the loader adds them only to graphs without a version stamp.
- BatchNorm in a "param" file, which lists every option, without fix_gamma is older than that option (5 December 2015,
  apache/mxnet #3037): gamma was learned, while the option's default of today would ignore it.
- CuDNNBatchNorm is BatchNorm now.
- Networks cast to float16 or float64 are computed in float32; convolutions and poolings over channels that come last,
  which MXNet has on GPUs alone, between transpositions.
- Pooling rounded its output size up until July 2016 (apache/mxnet #2585, #2718) and rounds down since.
"""
from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Literal

from mxelm.backbones.graph_form import build, computable, read_graph
from mxelm.backbones.graph_parameters import inner_shapes
from mxelm.backbones.images_in import fits
from mxelm.errors import InputError
from mxelm.files import read_bytes

if TYPE_CHECKING:
    from mxelm.runtime import mx

CONVENTIONS = ("valid", "full")
_BATCHNORM_ATTRIBUTES = {"eps", "momentum", "fix_gamma", "use_global_stats", "output_mean_var", "axis"}

_OTHER_FLOATS = ("float16", "float64", "bfloat16")

_log = logging.getLogger(__name__)


def load_symbol(path: str | os.PathLike, arg_params: dict[str, mx.nd.NDArray],
                *, input_shape: tuple[int, int, int] | None = None,
                pooling_convention: Literal["valid", "full"] | None = None, content: bytes | None = None,
                cut: str | None = None) -> mx.sym.Symbol:
    """Load PREFIX-symbol.json of any age as a Symbol.

    arg_params: dict of name -> array, the parameters that the network was trained to; they decide what it meant.
    input_shape: (channels, height, width) by which poolings are judged; None leaves them as MXNet reads them.
    pooling_convention: "valid" or "full" for the poolings that do not say; None finds out: "valid" unless the shapes
    of the parameters fit "full" only. content: the file's bytes, where they are read already. cut: the output that is
    wanted; what MXNet cannot compute behind it is left away. Raises FileError for a file that is no symbol or cannot
    be computed, InputError for another convention.
    """
    if pooling_convention not in (None, *CONVENTIONS):
        raise InputError(f"pooling_convention {pooling_convention!r} is not known: use valid or full")
    graph = read_graph(path, read_bytes(path) if content is None else content)
    for note in repair(graph):
        _log.info("%s: %s", path, note)
    _warn_of_padded_inception21k(path, graph)
    graph = computable(path, graph, cut)
    symbol = build(graph)
    poolings = _silent_poolings(graph)
    if pooling_convention == "valid" or not poolings:
        return symbol
    wanted = poolings if pooling_convention == "full" else [node for node in poolings if _strides(node)]
    rounded = build(_rounding_up(graph, wanted))
    if pooling_convention == "full":
        return rounded
    as_valid, as_full = (input_shape is not None and fits(one, arg_params, input_shape) for one in (symbol, rounded))
    named = ", ".join(node["name"] for node in wanted)
    if as_full and not as_valid:
        _log.info("%s: poolings round up, as they did before July 2016; the parameters fit no other way: %s", path,
                  named)
        return rounded
    if (as_valid and as_full and any(node["listing"] for node in wanted)
            and inner_shapes(symbol, input_shape)[1] != inner_shapes(rounded, input_shape)[1]):
        _log.warning("%s is of 2016 or older and does not say how its poolings round (%s); both ways fit, they are "
                     "read as rounding down, as from July 2016 on: say pooling_convention (--pooling) valid or full",
                     path, named)
    return symbol


def repair(graph: dict) -> list[str]:
    """Bring a graph (the JSON as a dict) to today's form, in place; returns a sentence for each kind of repair."""
    notes = _in_float32(graph) + _channels_first(graph)
    cudnn = [node for node in graph["nodes"] if node["op"] == "CuDNNBatchNorm"]
    for node in cudnn:
        node["op"] = "BatchNorm"
        node["attrs"] = {k: v for k, v in node["attrs"].items() if k in _BATCHNORM_ATTRIBUTES or k.startswith("__")}
    if cudnn:
        notes.append(f"{len(cudnn)} CuDNNBatchNorm layers are read as BatchNorm")
    norms = [node for node in graph["nodes"] if node["op"] == "BatchNorm"]
    if any(len(node["inputs"]) == 3 for node in norms) and graph["attrs"].pop("mxnet_version", None):
        notes.append("BatchNorm layers without running statistics among their inputs: the version stamp is dropped, "
                     "so that MXNet adds them")
    learned = [node for node in norms if node["listing"] and "fix_gamma" not in node["attrs"]]
    for node in learned:
        node["attrs"]["fix_gamma"] = "False"
    if learned:
        notes.append(f"{len(learned)} BatchNorm layers are older than fix_gamma: their gamma is used")
    return notes


def _in_float32(graph):
    changed = []
    for node in graph["nodes"]:
        typed = {key for key, value in node["attrs"].items() if key == "__dtype__" or (
            key in ("dtype", "out_type") and value in _OTHER_FLOATS)}
        changed += [node] if typed and node["attrs"].get("__dtype__") != "0" else []
        # a variable keeps its type, by the number that MXNet gives float32: some operators do not pass types backwards
        node["attrs"].update({key: "0" if key == "__dtype__" else "float32" for key in typed})
    return [f"{len(changed)} nodes of another precision are computed in float32"] if changed else []


def _channels_first(graph):
    """Put each layer that takes (n, h, w, c) between transpositions, weights (o, h, w, i) behind one."""
    made, place, count = [], [], 0

    def transposed(entry, axes, name):
        made.append({"op": "transpose", "name": name, "attrs": {"axes": axes}, "inputs": [entry], "listing": False})
        return [len(made) - 1, 0, 0]

    for node in graph["nodes"]:
        inputs = [[place[entry[0]], *entry[1:]] for entry in node["inputs"]]
        if node["op"] == "null" or node["attrs"].get("layout") != "NHWC":  # variables repeat their layer's attributes
            made.append({**node, "inputs": inputs})
        else:
            count += 1
            inputs[:2] = [transposed(entry, "(0, 3, 1, 2)", f"{node['name']}_first{i}")
                          for i, entry in enumerate(inputs[:2])]
            attributes = {key: value for key, value in node["attrs"].items() if key != "layout"}
            made.append({**node, "name": f"{node['name']}_inner", "attrs": attributes, "inputs": inputs})
            transposed([len(made) - 1, 0, 0], "(0, 2, 3, 1)", node["name"])
        place.append(len(made) - 1)
    graph["nodes"], graph["heads"] = made, [[place[head[0]], *head[1:]] for head in graph["heads"]]
    return [f"{count} layers over (n, h, w, c) are computed over (n, c, h, w)"] if count else []


def _silent_poolings(graph):
    return [node for node in graph["nodes"] if node["op"] in ("Pooling", "Pooling_v1")
            and "pooling_convention" not in node["attrs"] and not _is_true(node["attrs"].get("global_pool"))]


def _is_true(value):
    return str(value) in ("True", "true", "1")


def _strides(node):
    return any(int(n) > 1 for n in re.findall(r"\d{1,9}", node["attrs"].get("stride", "")))


def _rounding_up(graph, poolings):
    names = {node["name"] for node in poolings}
    nodes = [{**node, "attrs": {**node["attrs"], "pooling_convention": "full"}} if node["name"] in names else node
             for node in graph["nodes"]]
    return {**graph, "nodes": nodes}


def _warn_of_padded_inception21k(path, graph):
    nodes = {node["name"]: node for node in graph["nodes"]}
    widths = [node["attrs"].get("num_hidden") for node in graph["nodes"] if node["op"] == "FullyConnected"]
    if "21841" not in widths or "ch_concat_3c_chconcat" not in nodes:
        return
    padded = [name for name in ("max_pool_3c_pool", "max_pool_4e_pool") if name in nodes
              and nodes[name]["attrs"].get("pad", "").replace(" ", "") == "(1,1)"]
    if padded:
        _log.warning("%s: %s pad by (1, 1), as the published symbol did from July 2016 on; the Inception21k weights "
                     "are older, and in their network these poolings do not pad but round up: the features will "
                     "differ silently; remove this file to have the network built as it was trained", path,
                     ", ".join(padded))
