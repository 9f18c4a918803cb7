"""Symbols: cutting at an internal output, and the guard without which internal heads are silently wrong."""
import difflib

from mxelm.errors import InputError
from mxelm.runtime import mx, without_lines


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
    every head right. The output of a head of node `relu1` is named `relu1_head_output`.
    """
    return mx.sym.Group([mx.sym.BlockGrad(head, name=f"{head.name}_head") for head in heads])


def bind(symbol, shapes, arg_params, aux_params, ctx):
    """A Module over `symbol`, bound for inference with its parameters set.

    shapes: dict of input name -> shape, in the order of the Module's `data_names`.
    """
    module = mx.mod.Module(symbol, data_names=list(shapes), label_names=None, context=ctx)
    try:
        with without_lines("is disabled."):  # MXNet tells at every bind that the guard's switch is on
            module.bind(data_shapes=list(shapes.items()), for_training=False, grad_req="null")
    except RuntimeError as error:  # MXNetError is one
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"MXNet cannot bind the network to {shapes}: {reason}; is the batch too large?") from None
    module.set_params(arg_params, aux_params)
    return module
