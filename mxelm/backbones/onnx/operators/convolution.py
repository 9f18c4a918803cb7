"""Convolutions of one to three spatial axes, and their transposes."""
from mxelm.backbones.onnx.operators.padding import pad, spatial_pads
from mxelm.runtime import mx


def _conv(node):
    weight = node.shape(1)
    kernel = node.attribute("kernel_shape", weight[2:])
    strides, dilations = _sizes(node, kernel)
    pads = spatial_pads(node, kernel, strides, dilations)
    x = node.x
    if any(before != after for before, after in pads):
        x, _ = pad(x, node.shape(), [(0, 0), (0, 0), *pads])
        pads = [(0, 0)] * len(pads)
    bias = [node.symbol(2)] if node.has(2) else []
    return mx.sym.Convolution(x, node.symbol(1), *bias, kernel=tuple(kernel), stride=strides, dilate=dilations,
                              pad=tuple(before for before, _ in pads), num_filter=weight[0],
                              num_group=node.attribute("group", 1), no_bias=not bias)


def _conv_transpose(node):
    """The whole transposed convolution, cut (or padded) to the output's size."""
    weight, group = node.shape(1), node.attribute("group", 1)
    kernel = node.attribute("kernel_shape", weight[2:])
    strides, dilations = _sizes(node, kernel)
    whole = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(node.shape()[2:], strides, kernel, dilations)]
    wanted = node.outputs[0][2:]
    cuts = [(-begin, w + begin - n) for begin, w, n in zip(_begins(node, whole, wanted), wanted, whole)]
    bias = [node.symbol(2)] if node.has(2) else []
    y = mx.sym.Deconvolution(node.x, node.symbol(1), kernel=tuple(kernel), stride=strides, dilate=dilations,
                             num_filter=weight[1] * group, num_group=group, no_bias=True)
    y, _ = pad(y, (*node.outputs[0][:2], *whole), [(0, 0), (0, 0), *cuts])
    return mx.sym.broadcast_add(y, mx.sym.reshape(bias[0], (1, -1, *(1,) * len(kernel)))) if bias else y


def _begins(node, whole, wanted):
    """Where the output begins in the whole transposed convolution, for each spatial axis."""
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "", "VALID") and node.attribute("output_shape") is None:
        return node.attribute("pads", [0] * len(wanted))[:len(wanted)] if auto != "VALID" else [0] * len(wanted)
    extra = node.attribute("output_padding", [0] * len(wanted))
    totals = [max(n + e - w, 0) for n, e, w in zip(whole, extra, wanted)]
    return [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]


def _sizes(node, kernel):
    ones = [1] * len(kernel)
    return tuple(node.attribute("strides", ones)), tuple(node.attribute("dilations", ones))


TABLE = {"Conv": _conv, "ConvTranspose": _conv_transpose}
