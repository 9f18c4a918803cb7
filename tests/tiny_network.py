"""A small network with BatchNorms, as a symbol and its parameters."""
import numpy as np

from mxelm.runtime import mx


def tiny_symbol(n_classes=4):
    """3x16x16 -> convolution, BatchNorm, ReLU, pooling, twice -> 8 features at flatten_output -> softmax."""
    x = mx.sym.var("data")
    for number, width in enumerate((6, 8)):
        x = mx.sym.Convolution(x, num_filter=width, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"conv{number}")
        x = mx.sym.BatchNorm(x, fix_gamma=False, name=f"bn{number}")
        x = mx.sym.Activation(x, act_type="relu", name=f"relu{number}")
        x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name=f"pool{number}")
    x = mx.sym.Pooling(x, kernel=(4, 4), pool_type="avg", name="global_pool")
    x = mx.sym.flatten(x, name="flatten")
    return mx.sym.softmax(mx.sym.FullyConnected(x, num_hidden=n_classes, name="fc1"), name="softmax")


def tiny_params(symbol, seed=0, shape=(1, 3, 16, 16)):
    """Random parameters, with running statistics that are no identity."""
    rng = np.random.default_rng(seed)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=shape)

    def draw(name, shape):
        if name.endswith(("gamma", "var")):
            return rng.uniform(0.5, 2, shape)
        return rng.normal(0, 0.5, shape)

    named = zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arg_shapes + aux_shapes)
    arrays = {name: mx.nd.array(draw(name, shape), dtype="float32") for name, shape in named if name != "data"}
    aux = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    return arrays, aux
