"""Symbol JSON of any age: what MXNet's own loader loses or leaves different is repaired before, and logged.

- "param", "attr" and "attrs" of a node are one dict today: they are merged.
- BatchNorm with 3 inputs (aux states were implicit): the loader adds them only to graphs without a version stamp.
- BatchNorm in a "param" file, which lists every option, without fix_gamma is older than that option (5 December 2015,
  apache/mxnet #3037): gamma was learned, while the option's default of today would ignore it.
- CuDNNBatchNorm is BatchNorm now.
- Pooling rounded its output size up until July 2016 (apache/mxnet #2585, #2718) and rounds down since.
"""
import json
import logging

from mxelm.backbones.graph_parameters import infer_shapes
from mxelm.errors import FileError, InputError
from mxelm.runtime import mx

CONVENTIONS = ("valid", "full")
_BATCHNORM_ATTRIBUTES = {"eps", "momentum", "fix_gamma", "use_global_stats", "output_mean_var", "axis"}

_log = logging.getLogger(__name__)


def load_symbol(path, arg_params, input_shape=None, pooling_convention=None):
    """Load PREFIX-symbol.json of any age as a Symbol.

    arg_params: dict of name -> array, the parameters that the network was trained to; they decide what it meant.
    input_shape: (channels, height, width) by which poolings are judged; None leaves them as MXNet reads them.
    pooling_convention: "valid" or "full" for the poolings that do not say; None finds out: "valid" unless the shapes
    of the parameters fit "full" only. Raises FileError for a file that is no symbol, InputError for another word.
    """
    if pooling_convention not in (None, *CONVENTIONS):
        raise InputError(f"pooling_convention {pooling_convention!r} is not known: use valid or full")
    graph = _read(path)
    notes = repair(graph)
    for note in notes:
        _log.info("%s: %s", path, note)
    _warn_of_padded_inception21k(path, graph)
    symbol = _build(path, graph)
    poolings = _silent_poolings(graph)
    if pooling_convention == "valid" or not poolings:
        return symbol
    if pooling_convention is None and (input_shape is None or _fits(symbol, arg_params, input_shape)):
        return symbol
    wanted = poolings if pooling_convention == "full" else [node for node in poolings if _strides(node)]
    rounded = _rounding_up(path, graph, wanted)
    if pooling_convention is None:
        if not _fits(rounded, arg_params, input_shape):
            return symbol  # neither fits: the caller's check names the parameter that does not
        _log.info("%s: poolings round up, as they did before July 2016; the parameters fit no other way: %s", path,
                  ", ".join(node["name"] for node in wanted))
    return rounded


def repair(graph):
    """Bring a graph (the JSON as a dict) to today's form, in place; returns a sentence for each kind of repair."""
    notes = []
    listing_all = {node["name"] for node in graph["nodes"] if "param" in node}
    for node in graph["nodes"]:
        _merge_attributes(node)
    cudnn = [node for node in graph["nodes"] if node["op"] == "CuDNNBatchNorm"]
    for node in cudnn:
        node["op"] = "BatchNorm"
        node["attrs"] = {k: v for k, v in node["attrs"].items() if k in _BATCHNORM_ATTRIBUTES or k.startswith("__")}
    if cudnn:
        notes.append(f"{len(cudnn)} CuDNNBatchNorm layers are read as BatchNorm")
    norms = [node for node in graph["nodes"] if node["op"] == "BatchNorm"]
    if any(len(node["inputs"]) == 3 for node in norms) and graph.get("attrs", {}).pop("mxnet_version", None):
        notes.append("BatchNorm layers without running statistics among their inputs: the version stamp is dropped, "
                     "so that MXNet adds them")
    learned = [node for node in norms if node["name"] in listing_all and "fix_gamma" not in node["attrs"]]
    for node in learned:
        node["attrs"]["fix_gamma"] = "False"
    if learned:
        notes.append(f"{len(learned)} BatchNorm layers are older than fix_gamma: their gamma is used")
    return notes


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            graph = json.load(file)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        graph = None
    if not _is_graph(graph):
        raise FileError(f"{path} is damaged or not an MXNet symbol")
    return graph


def _is_graph(graph):
    """Whether the JSON has a graph's form, every node fed by earlier ones (MXNet accepts a node that feeds itself)."""
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list) or not graph.get("heads"):
        return False
    if not isinstance(graph.get("attrs", {}), dict):
        return False
    return all(_is_node(node, i) for i, node in enumerate(graph["nodes"])) and all(
        _is_entry(head, len(graph["nodes"])) for head in graph["heads"])


def _is_node(node, index):
    return (isinstance(node, dict) and isinstance(node.get("op"), str) and isinstance(node.get("name"), str)
            and isinstance(node.get("inputs"), list) and all(_is_entry(entry, index) for entry in node["inputs"])
            and all(isinstance(node.get(key, {}), dict) for key in ("param", "attr", "attrs")))


def _is_entry(entry, below):
    return isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[0], int) and 0 <= entry[0] < below


def _merge_attributes(node):
    attributes = {}
    for key in ("attr", "attrs", "param"):
        attributes.update(node.pop(key, None) or {})
    node["attrs"] = attributes
    node.pop("backward_source_id", None)


def _build(path, graph):
    try:
        return mx.sym.load_json(json.dumps(graph))
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1].split("]: ")[-1]
        raise FileError(f"{path} is damaged or not a symbol that MXNet 1.9.1 knows: {reason}") from None


def _silent_poolings(graph):
    return [node for node in graph["nodes"] if node["op"] in ("Pooling", "Pooling_v1")
            and "pooling_convention" not in node["attrs"] and not _is_true(node["attrs"].get("global_pool"))]


def _is_true(value):
    return str(value) in ("True", "true", "1")


def _strides(node):
    return any(int(n) > 1 for n in node["attrs"].get("stride", "(1, 1)").strip("()[] ").split(",") if n.strip())


def _rounding_up(path, graph, poolings):
    names = {node["name"] for node in poolings}
    nodes = [{**node, "attrs": {**node["attrs"], "pooling_convention": "full"}} if node["name"] in names else node
             for node in graph["nodes"]]
    return _build(path, {**graph, "nodes": nodes})


def _fits(symbol, arg_params, input_shape):
    try:
        shapes, _ = infer_shapes(symbol, input_shape, arg_params)
    except InputError:
        return False
    return all(tuple(array.shape) == tuple(shapes[name]) for name, array in arg_params.items() if name in shapes)


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
