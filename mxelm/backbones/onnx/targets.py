"""Shapes to which arrays are brought, while the batch axis has no size."""
from __future__ import annotations

import math
from collections.abc import Sequence

from mxelm.backbones.onnx.values import BATCH, Unsupported


def target_shape(old: Sequence[int], target: Sequence[int], static_batch: int | None,
                 allowzero: int) -> tuple[int, ...]:
    """A Reshape's output shape: 0 copies, -1 takes the rest; where the model fixes the batch, it is freed again.

    For that the target is worked out as the model has it, and BATCH put into the axis that begins where the batch did.
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
    for i, n in enumerate(wanted):
        if math.prod(wanted[:i]) == math.prod(there[:axis]) and n % fixed == 0:
            return (*wanted[:i], n // fixed * BATCH, *wanted[i + 1:])
    raise Unsupported("it mixes images of a batch")


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
