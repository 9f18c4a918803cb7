"""Shapes to which arrays are brought, while the batch axis has no size."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from mxelm.backbones.onnx.single import attribute
from mxelm.backbones.onnx.values import BATCH, Unsupported, Value


def target_shape(old: Sequence[int], target: Sequence[int], static_batch: int | None,
                 allowzero: int) -> tuple[int, ...]:
    """A Reshape's output shape: 0 copies, -1 takes the rest; where the model fixes the batch, it is freed again.

    For that the target is worked out as the model has it, and BATCH put where the batch was: into an axis of its size;
    else, with fewer axes than before, into the one that ends with it, as (places, batch, heads, channels) becomes
    (places * batch, channels); else into the one that begins with it, as (places, batch, channels) becomes (places,
    batch * heads, channels).
    """
    free = _resolved(old, target, allowzero)
    if free and not static_batch:
        return free
    fixed = static_batch or 1  # some exporters fix the batch of their example within, and call it free
    there = [_fixed(n, fixed) for n in old]
    wanted = _resolved(there, [_fixed(n, fixed) for n in target], allowzero)
    if wanted is None:
        raise Unsupported(f"{_shown(old)} cannot take the shape {_shown(target)}")
    if there == list(old):
        return wanted
    axis = next(i for i, n in enumerate(old) if n % BATCH == 0)
    before, within = math.prod(there[:axis]), math.prod(there[:axis + 1]) // fixed
    begins, ends = ([math.prod(wanted[:i + more]) for i in range(len(wanted))] for more in (0, 1))
    places = [i for i, n in enumerate(wanted) if n == fixed and begins[i] in (before, within)]
    if len(wanted) < len(old):
        places += [i for i, end in enumerate(ends) if end == before * fixed]
    places += [i for i, begin in enumerate(begins) if begin == before]
    for i in places:
        if wanted[i] % fixed == 0:
            return (*wanted[:i], wanted[i] // fixed * BATCH, *wanted[i + 1:])
    raise Unsupported("it mixes images of a batch")


def as_reshape(node: onnx.NodeProto, inputs: Sequence[Value | None]) -> onnx.NodeProto:
    """The node; a Reshape for a Gather that takes all numbers in their order, which is how PyTorch's newer exporter
    writes strides."""
    if node.op_type != "Gather" or len(inputs[0].shape) != 1 or inputs[1].constant is None:
        return node
    indices, n = inputs[1].constant, inputs[0].shape[0]
    if n not in (indices.size, indices.size * BATCH) or (indices.ravel() != np.arange(indices.size)).any():
        return node
    return onnx.helper.make_node("Reshape", node.input, node.output, name=node.name, shape=indices.shape)


def reshape_target(node: onnx.NodeProto, inputs: Sequence[Value | None]) -> list[int]:
    """The target that a Reshape node gives; Unsupported where it is computed from the image."""
    if attribute(node, "shape") is not None:
        return list(attribute(node, "shape"))
    if inputs[1].constant is None:
        raise Unsupported("its shape must be a constant")
    return inputs[1].constant.tolist()


def _resolved(old, target, allowzero):
    """The target without 0 and -1, None where it does not hold as many numbers as `old`."""
    target = [old[i] if n == 0 and not allowzero else n for i, n in enumerate(target)]
    rest, of = math.prod(n for n in target if n != -1), math.prod(old)
    if -1 in target and rest and of % rest == 0:
        target[target.index(-1)] = of // rest
    return tuple(target) if math.prod(target) == of else None


def _fixed(n, batch):
    return n // BATCH * batch if n > 0 and n % BATCH == 0 else n


def _shown(shape):
    return "(" + ", ".join("batch" if n == BATCH else str(n) for n in shape) + ")"
