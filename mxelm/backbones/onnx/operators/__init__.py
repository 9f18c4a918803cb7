"""What a node becomes: one small function an operator, from a Node to a Symbol (a list of them for several outputs).

A function that cannot do what its node asks raises Unsupported with the reason.
"""
from mxelm.backbones.onnx.operators import (
    convolution,
    elementwise,
    linear,
    normalisation,
    pooling,
    reduction,
    resizing,
    shapes,
)

TABLE = {**elementwise.TABLE, **convolution.TABLE, **pooling.TABLE, **linear.TABLE, **normalisation.TABLE,
         **reduction.TABLE, **shapes.TABLE, **resizing.TABLE}
