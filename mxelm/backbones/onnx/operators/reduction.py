"""Reductions over axes."""
from mxelm.runtime import mx


def _reduction(reduce):
    """A function for a reduction `reduce(x, axis=..., keepdims=...)`; without axes over all of them."""
    def function(node):
        axes = node.setting("axes", 1)
        if not axes:
            if node.attribute("noop_with_empty_axes", 0):
                return mx.sym.identity(node.x)
            axes = range(len(node.shape()))
        n_axes = max(len(node.shape()), 1)
        axes = tuple(sorted(axis % n_axes for axis in axes)) or (0,)
        return reduce(node.x, axis=axes, keepdims=bool(node.attribute("keepdims", 1)))
    return function


def _plain(name):
    return _reduction(lambda x, **how: getattr(mx.sym, name)(x, **how))


def _log_sum_exp(x, axis, keepdims):
    top = mx.sym.max(x, axis=axis, keepdims=True)
    rest = mx.sym.log(mx.sym.sum(mx.sym.exp(mx.sym.broadcast_sub(x, top)), axis=axis, keepdims=keepdims))
    return rest + (top if keepdims else mx.sym.max(x, axis=axis))


TABLE = {
    "ReduceSum": _plain("sum"), "ReduceMean": _plain("mean"), "ReduceMax": _plain("max"), "ReduceMin": _plain("min"),
    "ReduceProd": _plain("prod"),
    "ReduceL1": _reduction(lambda x, **how: mx.sym.sum(mx.sym.abs(x), **how)),
    "ReduceL2": _reduction(lambda x, **how: mx.sym.sqrt(mx.sym.sum(mx.sym.square(x), **how))),
    "ReduceSumSquare": _reduction(lambda x, **how: mx.sym.sum(mx.sym.square(x), **how)),
    "ReduceLogSum": _reduction(lambda x, **how: mx.sym.log(mx.sym.sum(x, **how))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
}
