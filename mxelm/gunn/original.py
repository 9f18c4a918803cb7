"""The original gradually updated layer (Qiao et al., ICML 2018), its fast form, and the simultaneous control.

Step j has weights of its own: a bottleneck reads all channels, those before block j already new, and its K outputs
are added to block j. `OriginalGunn` is that sentence; `FastOriginalGunn` is the same function.
Source: Qiao et al., section 3, and their code (github.com/joe-siyuan-qiao/GUNN, models/GunnLayer.lua).
"""
from mxelm.gunn.layer import GradualLayer, convolved, join, split
from mxelm.runtime import mx

GROUP = 5  # steps whose first convolutions run as one: 1.2 times faster than one by one


class Step(mx.gluon.HybridBlock):
    """What is added to a block of K channels, from all n channels x: (batch, n, h, w) -> (batch, K, h, w).

    1x1 to 2K, BatchNorm, ReLU, 3x3, BatchNorm, ReLU, 1x1 to K, BatchNorm; and beside it, with `shortcut` (the CIFAR
    networks), 1x1 to K, BatchNorm. No convolution has a bias.
    """

    def __init__(self, n, K, shortcut=True, **kwargs):
        super().__init__(**kwargs)
        nn = mx.gluon.nn
        self.K, self.width = K, 3 * K if shortcut else 2 * K  # width: channels computed from all channels
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

    def hybrid_forward(self, F, x):
        reduced = self.reduce(x)
        return self.after_first(F, F.concat(reduced, self.shortcut(x), dim=1) if self.shortcut else reduced)

    def after_first(self, F, read):
        """The step from what its convolutions of all channels give: 2K channels, then the shortcut's K."""
        z = F.slice_axis(read, axis=1, begin=0, end=2 * self.K) if self.shortcut else read
        z = F.relu(self.reduce_bn(z))
        z = F.relu(self.conv_bn(self.conv(z)))
        z = self.expand_bn(self.expand(z))
        if self.shortcut:
            z = z + self.shortcut_bn(F.slice_axis(read, axis=1, begin=2 * self.K, end=None))
        return z

    def first_kernels(self, F):
        """The kernels that read all channels, one below the other: (width, n, 1, 1)."""
        kernels = [value(F, layer.weight) for layer in (self.reduce, self.shortcut) if layer is not None]
        return F.concat(*kernels, dim=0) if len(kernels) > 1 else kernels[0]


class OriginalGunn(GradualLayer):
    """y (batch, n, height, width) of x of the same shape, in n/K steps, one `Step` each.

    3 n^2 + 38 n K + 12 n trainable parameters, 2 n^2 + 38 n K + 10 n without the shortcut convolution.
    """

    def __init__(self, n, K, shortcut=True, **kwargs):
        super().__init__(n, K, **kwargs)
        with self.name_scope():
            self.steps = mx.gluon.nn.HybridSequential(prefix="")
            for j in range(self.m):
                self.steps.add(Step(n, K, shortcut, prefix=f"step{j}_"))

    def hybrid_forward(self, F, x):
        blocks = split(F, x, self.m)
        for j, step in enumerate(self.steps):
            blocks[j] = blocks[j] + step(join(F, blocks))
        return join(F, blocks)


class FastOriginalGunn(OriginalGunn):
    """OriginalGunn, the same function: steps in groups, whose convolutions of all channels run as one.

    Within a group only the blocks before j are newer than what that convolution saw; as it is linear, each new block
    y_i adds W_j[:, i] * (y_i - x_i) to what it gave the later steps j of the group.
    """

    def hybrid_forward(self, F, x):
        blocks, steps = split(F, x, self.m), list(self.steps)
        for first in range(0, self.m, GROUP):
            self.update_group(F, blocks, first, steps[first:first + GROUP])
        return join(F, blocks)

    def update_group(self, F, blocks, first, group):
        """Update `blocks` by the steps of a group, of which the first is step `first`."""
        kernels = F.concat(*[step.first_kernels(F) for step in group], dim=0)
        width = group[0].width
        read = convolved(F, join(F, blocks), kernels, None, width * len(group), 1)
        for later, (j, step) in zip(reversed(range(len(group))), enumerate(group, first)):
            old = blocks[j]
            blocks[j] = old + step.after_first(F, F.slice_axis(read, axis=1, begin=0, end=width))
            if later:
                read = F.slice_axis(read, axis=1, begin=width, end=None)
                kernels = F.slice_axis(kernels, axis=0, begin=width, end=None)
                W_j = F.slice_axis(kernels, axis=1, begin=j * self.K, end=(j + 1) * self.K)
                read = read + convolved(F, blocks[j] - old, W_j, None, width * later, 1)


class OriginalSunn(OriginalGunn):
    """The control: the same steps with as many parameters, each reading the untouched input."""

    def hybrid_forward(self, F, x):
        kernels = F.concat(*[step.first_kernels(F) for step in self.steps], dim=0)
        read = convolved(F, x, kernels, None, self.steps[0].width * self.m, 1)
        return x + join(F, [step.after_first(F, part) for step, part in zip(self.steps, split(F, read, self.m))])


def value(F, parameter):
    """A child's parameter inside `hybrid_forward`: its array, or its variable while a graph is traced."""
    return parameter.var() if F is mx.sym else parameter.data()
