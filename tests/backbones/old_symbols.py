"""Symbol JSON as MXNet wrote it in 2015 and 2016, made from a Symbol of today."""
import json

_OPERATORS_OPTIONS = {  # every option was written out, as far as it existed then
    "Convolution": {"dilate": "(1,1)", "num_group": "1", "no_bias": "False", "workspace": "512"},
    "BatchNorm": {"momentum": "0.9"},
    "Pooling": {"global_pool": "False"},
    "FullyConnected": {"no_bias": "False"},
    "SoftmaxOutput": {"grad_scale": "1", "ignore_label": "-1", "multi_output": "False", "use_ignore": "False"},
}


def old_json(symbol, version=None, drop=("pooling_convention", "fix_gamma")):
    """The graph in the old form: "param" and "attr", no aux states as inputs, no options of later times, no version."""
    graph = json.loads(symbol.tojson())
    kept, number = [], {}
    statistics = {entry[0] for node in graph["nodes"] if node["op"] == "BatchNorm" for entry in node["inputs"][3:]}
    for i, node in enumerate(graph["nodes"]):
        if i in statistics:
            continue
        number[i] = len(kept)
        attributes = {} if node["op"] == "null" else node.get("attrs", {})
        inputs = [entry for entry in node["inputs"] if entry[0] not in statistics]
        kept.append({
            "op": node["op"], "name": node["name"],
            "param": {k: v.replace(" ", "") for k, v in {**_OPERATORS_OPTIONS.get(node["op"], {}), **attributes}.items()
                      if k not in drop},
            "inputs": [[number[entry[0]], entry[1]] for entry in inputs],
            "backward_source_id": -1,
        })
        if node["op"] == "Convolution":
            kept[-1]["attr"] = {"ctx_group": "stage1", "lr_mult": "0.5"}
    old = {"nodes": kept, "arg_nodes": [i for i, node in enumerate(kept) if node["op"] == "null"],
           "heads": [[number[head[0]], head[1]] for head in graph["heads"]]}
    if version:
        old["attrs"] = {"mxnet_version": ["int", version]}
        for node in old["nodes"]:
            node.pop("attr", None)
    return old
