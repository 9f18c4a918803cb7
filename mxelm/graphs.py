"""Symbols: cutting at an internal output or into segments, and the guard without which inner heads are wrong."""
from __future__ import annotations

import contextlib
import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from mxelm.errors import InputError
from mxelm.runtime import mx, without_lines


class Node(NamedTuple):
    """A node of a graph: its operator ("null": a variable), name, attributes (strings), and the (node, output) pairs
    that it reads; nodes are counted in the graph's own order, in which every node comes after those it reads."""

    op: str
    name: str
    attributes: dict
    inputs: tuple


def nodes(symbol: mx.sym.Symbol) -> tuple[list[Node], list[tuple[int, int]]]:
    """([Node], heads): the graph behind a Symbol, heads as (node, output) pairs."""
    graph = json.loads(symbol.tojson())
    return ([Node(node["op"], node["name"], node.get("attrs", {}), tuple(tuple(entry[:2]) for entry in node["inputs"]))
             for node in graph["nodes"]], [tuple(head[:2]) for head in graph["heads"]])


def keeps_numbers(symbol: mx.sym.Symbol) -> bool:
    """Whether oneDNN's fusion by `optimize_for` is right for a graph: what it fuses with a reader has no other.

    oneDNN fuses a FullyConnected with an Activation behind it, and gives the activated values to its other consumers
    too. The switch against it that mxelm.runtime sets holds for Module and executor, but not for `optimize_for`.
    Convolutions are fused wrongly by all of them, see `fusible`.
    """
    found, heads = nodes(symbol)
    consumers = Counter(producer for node in found for producer, _ in node.inputs)
    consumers.update(producer for producer, _ in heads)
    dense = all(consumers[i] == 1 for i, node in enumerate(found) if node.op == "FullyConnected")
    return dense and not _shared(found, heads)


def fusible(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The same function of the same inputs, whose numbers oneDNN's fusion at a bind leaves as they are.

    oneDNN fuses a convolution, or a BatchNorm or sum behind one, with what comes next although others read it too: the
    shortcut of CIFAR's ResNets of version 2, say, gets wrong numbers, or the bind fails. Behind a BlockGrad, which does
    nothing in inference, nothing is fused.
    """
    found, heads = nodes(symbol)
    shared = _shared(found, heads)
    if not shared:
        return symbol
    graph, made, place, read = json.loads(symbol.tojson()), [], {}, {}  # node: its new number, what others read
    for number, node in enumerate(graph["nodes"]):
        place[number] = read[number] = len(made)
        made.append({**node, "inputs": [[read[entry[0]], *entry[1:]] for entry in node["inputs"]]})
        if number in shared:
            read[number] = len(made)
            made.append({"op": "BlockGrad", "name": f"{node['name']}_shared", "inputs": [[place[number], 0, 0]]})
    arguments, heads = [place[i] for i in graph["arg_nodes"]], [[place[head[0]], *head[1:]] for head in graph["heads"]]
    guarded = {"nodes": made, "arg_nodes": arguments, "heads": heads, "attrs": graph["attrs"]}
    return mx.sym.load_json(json.dumps(guarded, ensure_ascii=False))


_ENDS = {"Activation", "LeakyReLU", "clip"}
_FOLLOWS = {"Convolution": {"BatchNorm", "elemwise_add", *_ENDS}, "BatchNorm": {"elemwise_add", *_ENDS},
            "elemwise_add": _ENDS}  # what oneDNN fuses behind a convolution, and behind what is fused with one


def _shared(found, heads):
    """By number: nodes with which a reader is fused although others read them too.

    A sum whose other operand is computed from the node is left alone: fusion would make a circle, which MXNet sees.
    """
    readers, above = {}, []  # above: what each node is computed from, as bits
    for i, node in enumerate(found):
        above.append(1 << i)
        for producer, _ in node.inputs:
            above[i] |= above[producer]
        behind = any(node.op in _FOLLOWS[found[producer].op] for producer, _ in node.inputs if producer in readers)
        if node.op == "Convolution" or node.op in _FOLLOWS and behind:
            readers[i] = []
    for node in (*found, Node("head", "", {}, tuple(heads))):
        for producer, _ in node.inputs:
            if producer in readers:
                readers[producer].append(node)

    def fused(i, node):
        others = {producer for producer, _ in node.inputs} - {i}
        circle = node.op == "elemwise_add" and others and all(above[other] >> i & 1 for other in others)
        return node.op in _FOLLOWS[found[i].op] and not circle

    return {i for i, by in readers.items() if len(by) > 1 and any(fused(i, node) for node in by)}


def cut(symbol: mx.sym.Symbol, output: str) -> mx.sym.Symbol:
    """The sub-graph of `symbol` that ends at internal output `output`: its name ("flatten_output"), or its layer's.

    Of layers that share a name the later ones are called by it and "_2", "_3", and so on. Raises InputError that names
    the nearest outputs when there is no such one.
    """
    names = entry_names(symbol)
    entry = _find_exit(symbol, names, output)
    return symbol.get_internals()[list(names).index(entry)]


def _require_output(symbol, names, output):
    arguments = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    if output not in names or output in arguments:
        produced = [name for name in names if name not in arguments]
        near = difflib.get_close_matches(output, produced, n=3, cutoff=0.3) or produced[-3:]
        raise InputError(f"the network has no output {output!r}; the nearest are {', '.join(near)}: name one of "
                         "them; `mxelm info PREFIX --outputs` lists all")


def renamed(symbol: mx.sym.Symbol, names: dict[str, str]) -> mx.sym.Symbol:
    """The same graph with the nodes that are keys of `names` called by its values."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        node["name"] = names.get(node["name"], node["name"])
    return mx.sym.load_json(json.dumps(graph, ensure_ascii=False))


def without_loss(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The one output `symbol` as it is used: a SoftmaxOutput, which wants a label, is the softmax of what enters it."""
    if operator(symbol) not in ("SoftmaxOutput", "Softmax"):
        return symbol
    return mx.sym.softmax(symbol.get_children()[0], name=symbol.name)


def operator(symbol: mx.sym.Symbol) -> str:
    """The name of the operator that makes the one output `symbol`."""
    found, heads = nodes(symbol)
    return found[heads[0][0]].op


def guard(heads: Iterable[mx.sym.Symbol]) -> mx.sym.Symbol:
    """A Group of `heads` that may be consumed inside the graph, each behind its own BlockGrad.

    oneDNN fusion at bind otherwise returns the fused value for an inner head (a convolution's output comes out
    after its ReLU). With MXNET_DISABLE_MKLDNN_FC_OPT=1, set by mxelm.runtime before MXNet loads, BlockGrad makes
    every head right. The output of a head of node `relu1` is named `relu1_head_output`.
    """
    return mx.sym.Group([_guarded(head) for head in heads])


def _guarded(head):
    return mx.sym.BlockGrad(head, name=f"{head.name}_head")


@dataclass(frozen=True)
class Segment:
    """A piece of a network that ends at an exit and computes nothing that an earlier piece has computed.

    symbol: Symbol; its outputs are, in order, `exit` and `crossings`. inputs: names of its variables that are fed:
    "data", and outputs of earlier segments by the names these give them. exit: the output at which it ends.
    crossings: other outputs that later segments read (of the last segment: the network's other heads).
    """

    symbol: object
    inputs: tuple
    exit: str
    crossings: tuple

    @property
    def outputs(self) -> tuple[str, ...]:
        """The exit and the crossings, in the order of the symbol's outputs."""
        return (self.exit, *self.crossings)


def segments(symbol: mx.sym.Symbol, exits: Sequence[str]) -> list[Segment]:
    """Split `symbol` at `exits` into len(exits) + 1 chained Segments; the last ends at the network's own heads.

    exits: names of internal outputs, or of the layers whose first output is meant, in the order of computation. What
    crosses a cut (shortcuts, parallel branches) is handed on, so an exit may lie anywhere, in one of several parallel
    branches too. Parameters stay with the segments that read them. Raises InputError for an exit that does not exist
    (naming the nearest), or that is computed on the way to an exit named before it.
    """
    graph = json.loads(symbol.tojson())
    nodes, heads = graph["nodes"], [tuple(head[:2]) for head in graph["heads"]]
    names = entry_names(symbol)
    ends = [*([_find_exit(symbol, names, exit)] for exit in exits), heads]
    owner = _owners(nodes, ends, names)
    reads = [(tuple(entry[:2]), number) for node, number in owner.items() for entry in nodes[node]["inputs"]]
    inner = {entry for entry, number in reads if number == owner.get(entry[0])}
    reads += [(head, len(exits)) for head in heads]
    crossing = sorted({entry for entry, number in reads if number > owner.get(entry[0], number)})
    made = []
    for number, end in enumerate(ends):
        outputs = dict.fromkeys([*end, *(entry for entry in crossing if owner[entry[0]] == number)])
        operators = [node for node in sorted(owner) if owner[node] == number]
        part, inputs = _rebuilt(graph, operators, list(outputs), names)
        heads_of_part = [_guarded(head) if entry in inner else head for entry, head in zip(outputs, part)]
        exit, *crossings = (names[entry] for entry in outputs)
        made.append(Segment(mx.sym.Group(heads_of_part), inputs, exit, tuple(crossings)))
    return made


def joined(parts: Sequence[Segment]) -> mx.sym.Symbol:
    """The whole network of chained Segments again, a Symbol that ends at the last exit: the inverse of `segments`."""
    values = {"data": mx.sym.var("data")}
    for part in parts:
        symbol = part.symbol(**{name: values[name] for name in part.inputs})
        values.update(zip(part.outputs, symbol))
    return values[parts[-1].exit]


def entry_names(symbol: mx.sym.Symbol) -> dict[tuple[int, int], str]:
    """(node, output) -> a name of its own: what the internal output is called, numbered where several share a name."""
    internals = symbol.get_internals()
    called, names = internals.list_outputs(), {}
    taken = set(called)
    for entry, name in zip(nodes(internals)[1], called):
        layer, end = (name[:-len("_output")], "_output") if name.endswith("_output") else (name, "")
        free = (f"{layer}_{number}{end}" for number in count(2))
        names[entry] = name if name in taken else next(new for new in free if new not in called and
                                                       new not in names.values())
        taken.discard(name)
    return names


def _find_exit(symbol, names, exit):
    """The (node, output) of an exit given by its output's name or its layer's."""
    found = {name: entry for entry, name in names.items()}
    output = next((name for name in (exit, f"{exit}_output", f"{exit}_output0") if name in found), exit)
    _require_output(symbol, list(found), output)
    return found[output]


def _owners(nodes, ends, names):
    """Operator node -> number of the segment that computes it: the first whose end needs it."""
    owner = {}
    for number, end in enumerate(ends):
        new, waiting = set(), [node for node, _ in end]
        while waiting:
            node = waiting.pop()
            if nodes[node]["op"] != "null" and node not in owner and node not in new:
                new.add(node)
                waiting += [entry[0] for entry in nodes[node]["inputs"]]
        if not new:
            raise InputError(f"{names[end[0]]} is computed on the way to an exit before it: name the exits in the "
                             "order of computation, each once, and the network's own output not at all")
        owner.update(dict.fromkeys(new, number))
    return owner


def _rebuilt(graph, operators, outputs, names):
    """A Symbol of some operators of a graph that ends at `outputs`, and the names of the inputs it is fed with."""
    nodes, made, place, inputs = graph["nodes"], [], {}, []

    def locate(entry):
        node, output = entry[:2]
        if node in place:
            return [place[node], output, 0]
        crosses = nodes[node]["op"] != "null"  # computed by an earlier segment
        key = (node, output) if crosses else node
        if key not in place:
            place[key] = len(made)
            made.append({"op": "null", "name": names[key], "inputs": []} if crosses else nodes[node])
            if crosses or nodes[node]["name"] == "data":
                inputs.append(made[-1]["name"])
        return [place[key], 0, 0]

    for node in operators:
        read = [locate(entry) for entry in nodes[node]["inputs"]]
        place[node] = len(made)
        made.append({**nodes[node], "inputs": read})
    heads = [locate(entry) for entry in outputs]
    variables = [number for number, node in enumerate(made) if node["op"] == "null"]
    part = {"nodes": made, "arg_nodes": variables, "heads": heads, "attrs": graph["attrs"]}
    return mx.sym.load_json(json.dumps(part, ensure_ascii=False)), tuple(inputs)


@contextlib.contextmanager
def computing(name: str) -> Iterator[None]:
    """Turn MXNet's errors in the block into an InputError that names the network: some come only as it computes."""
    try:
        yield
    except mx.MXNetError as error:
        reason = str(error).strip().splitlines()[-1].split("MXNetError: ")[-1]
        raise InputError(f"MXNet cannot compute {name}: {reason}") from None


def bind(symbol: mx.sym.Symbol, shapes: dict[str, tuple], arg_params: dict, aux_params: dict,
         *, ctx: mx.Context) -> mx.mod.Module:
    """A Module over `symbol`, bound for inference with its parameters set.

    shapes: dict of input name -> shape, in the order of the Module's `data_names`.
    """
    module = mx.mod.Module(fusible(symbol), data_names=list(shapes), label_names=None, context=ctx)
    try:
        with without_lines("is disabled."):  # MXNet prints at every bind that the guard's switch is on
            module.bind(data_shapes=list(shapes.items()), for_training=False, grad_req="null")
    except RuntimeError as error:  # MXNetError is one
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"MXNet cannot bind the network to {shapes}: {reason}; is the batch too large?") from None
    module.set_params(arg_params, aux_params)
    return module
