"""The original gradually updated layer (Qiao et al., ICML 2018), its fast form, and the simultaneous control.

Step j has weights of its own: a bottleneck reads all channels, those before block j already new, and its K outputs
are added to block j. `OriginalGunn` is that sentence; `FastOriginalGunn` is the same function.
Source: Qiao et al., section 3, and their code (github.com/joe-siyuan-qiao/GUNN, models/GunnLayer.lua).
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from mxelm.gunn.layer import GradualLayer, Tensor, convolved, join, split
from mxelm.runtime import mx

GROUP = 5  # steps whose first convolutions run as one


class Step(mx.gluon.HybridBlock):
    """What is added to a block of K channels, from all n channels x: (batch, n, h, w) -> (batch, K, h, w).

    1x1 to 2K, BatchNorm, ReLU, 3x3, BatchNorm, ReLU, 1x1 to K, BatchNorm; and beside it, with `shortcut` (the CIFAR
    networks), 1x1 to K, BatchNorm. No convolution has a bias.
    """

    def __init__(self, n: int, K: int, shortcut: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        nn = mx.gluon.nn
        with self.name_scope():
            self.reduce = nn.Conv2D(2 * K, 1, use_bias=False, in_channels=n, prefix="reduce_")
            self.reduce_bn = nn.BatchNorm(in_channels=2 * K, prefix="reduce_bn_")
            self.conv = nn.Conv2D(2 * K, 3, padding=1, use_bias=False, in_channels=2 * K, prefix="conv_")
            self.conv_bn = nn.BatchNorm(in_channels=2 * K, prefix="conv_bn_")
            self.expand = nn.Conv2D(K, 1, use_bias=False, in_channels=2 * K, prefix="expand_")
            self.expand_bn = nn.BatchNorm(in_channels=K, prefix="expand_bn_")
            self.shortcut = self.shortcut_bn = None
            if shortcut:
                self.shortcut = nn.Conv2D(K, 1, use_bias=False, in_channels=n, prefix="shortcut_")
                self.shortcut_bn = nn.BatchNorm(in_channels=K, prefix="shortcut_bn_")

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        return self.after_first(F, self.reduce(x), *([self.shortcut(x)] if self.shortcut else []))

    def after_first(self, F: ModuleType, reduced: Tensor, short: Tensor | None = None) -> Tensor:
        """The step from what its convolutions of all channels give: reduced (2K channels), short (K)."""
        z = F.relu(self.reduce_bn(reduced))
        z = F.relu(self.conv_bn(self.conv(z)))
        z = self.expand_bn(self.expand(z))
        return z if short is None else z + self.shortcut_bn(short)

    def first_kernels(self, F: ModuleType) -> list[Tensor]:
        """The kernels that read all channels: (2K, n, 1, 1), and of the shortcut (K, n, 1, 1)."""
        return [value(F, layer.weight) for layer in (self.reduce, self.shortcut) if layer is not None]


class OriginalGunn(GradualLayer):
    """y (batch, n, height, width) of x of the same shape, in n/K steps, one `Step` each.

    3 n^2 + 38 n K + 12 n trainable parameters, 2 n^2 + 38 n K + 10 n without the shortcut convolution.
    """

    def __init__(self, n: int, K: int, shortcut: bool = True, **kwargs: Any) -> None:
        super().__init__(n, K, **kwargs)
        with self.name_scope():
            self.steps = mx.gluon.nn.HybridSequential(prefix="")
            for j in range(self.m):
                self.steps.add(Step(n, K, shortcut, prefix=f"step{j}_"))

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        blocks = split(F, x, self.m)
        for j, step in enumerate(self.steps):
            blocks[j] = blocks[j] + step(join(F, blocks))
        return join(F, blocks)


class FastOriginalGunn(OriginalGunn):
    """OriginalGunn, the same function: steps in groups, whose convolutions of all channels run as one.

    Within a group only the blocks before j are newer than what that convolution saw; as it is linear, each new block
    y_i adds W_j[:, i] * (y_i - x_i) to what it gave the later steps j of the group.
    """

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        blocks, steps = split(F, x, self.m), list(self.steps)
        for first in range(0, self.m, GROUP):
            self.update_group(F, blocks, first, steps[first:first + GROUP])
        return join(F, blocks)

    def update_group(self, F: ModuleType, blocks: list[Tensor], first: int, group: Sequence[Step]) -> None:
        """Update `blocks` by the steps of a group; first: number of its first step."""
        newer = []  # y_i - x_i of the group's blocks so far
        for j, (step, seen) in enumerate(zip(group, read_at_once(F, join(F, blocks), group, self.K)), first):
            if newer:
                changes, columns = join(F, newer), {"axis": 1, "begin": first * self.K, "end": j * self.K}
                seen = [z + convolved(F, changes, F.slice_axis(W, **columns), None, filters, 1)
                        for z, W, filters in zip(seen, step.first_kernels(F), (2 * self.K, self.K))]
            newer.append(step.after_first(F, *seen))
            blocks[j] = blocks[j] + newer[-1]


class OriginalSunn(OriginalGunn):
    """The control: the same steps with as many parameters, each reading the untouched input."""

    def hybrid_forward(self, F: ModuleType, x: Tensor) -> Tensor:
        steps = list(self.steps)
        seen = read_at_once(F, x, steps, self.K)
        return x + join(F, [step.after_first(F, *read) for step, read in zip(steps, seen)])


def read_at_once(F: ModuleType, x: Tensor, steps: Sequence[Step], K: int) -> Iterator[tuple[Tensor, ...]]:
    """What the first convolutions of several steps give of all channels x, for each step as `after_first` takes it."""
    kernels = zip(*[step.first_kernels(F) for step in steps])  # all steps' first, all steps' shortcuts
    return zip(*[split(F, convolved(F, x, F.concat(*kind, dim=0), None, filters * len(steps), 1), len(steps))
                 for kind, filters in zip(kernels, (2 * K, K))])


def value(F: ModuleType, parameter: mx.gluon.Parameter) -> Tensor:
    """A child's parameter inside `hybrid_forward`: its array, or its variable while a graph is traced."""
    return parameter.var() if F is mx.sym else parameter.data()
