"""Symbols: cutting at an internal output, and the guard without which internal heads are silently wrong."""
import difflib

from mxelm.errors import InputError
from mxelm.runtime import mx


def cut(symbol, output):
    """The sub-graph of `symbol` that ends at internal output `output` (a name such as "flatten_output").

    Raises InputError that names the nearest outputs when there is no such one.
    """
    internals = symbol.get_internals()
    names = internals.list_outputs()
    arguments = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    if output not in names or output in arguments:
        produced = [name for name in names if name not in arguments]
        near = difflib.get_close_matches(output, produced, n=3, cutoff=0.3) or produced[-3:]
        raise InputError(f"the network has no output {output!r}; the nearest are {', '.join(near)}")
    return internals[output]


def guard(heads):
    """A Group of `heads` that may be consumed inside the graph, each behind its own BlockGrad.

    oneDNN fusion at bind otherwise returns the fused value for an inner head (a convolution's output comes out
    after its ReLU). With MXNET_DISABLE_MKLDNN_FC_OPT=1, set by mxelm.runtime before MXNet loads, BlockGrad makes
    every head right. Outputs are named `<head>_output` after the head's node.
    """
    return mx.sym.Group([mx.sym.BlockGrad(head, name=f"{head.name}_head") for head in heads])
