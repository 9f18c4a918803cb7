"""The layers once more, in NumPy, float64 and plain loops; and what a layer gives: its output and every gradient."""
import numpy as np

from mxelm.runtime import mx


def convolve(x, W, b=None):
    """W * x + b with "same" padding: x (batch, n, height, width), W (filters, n, size, size)."""
    size, (height, width) = W.shape[2], x.shape[2:]
    edge = size // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    y = np.zeros((len(x), len(W), height, width))
    for i in range(size):
        for j in range(size):
            y += np.einsum("fc,bchw->bfhw", W[:, :, i, j], padded[:, :, i:i + height, j:j + width])
    return y if b is None else y + b[:, None, None]


def gradual(x, W, b):
    """One gradual pass: step by step, the filters overwrite the next channels of what they read."""
    y = x.copy()
    for first in range(0, x.shape[1], len(W)):
        y[:, first:first + len(W)] = convolve(y, W, b)
    return y


def simultaneous(x, W, b):
    """The same where every step reads the untouched input."""
    y = np.empty_like(x)
    for first in range(0, x.shape[1], len(W)):
        y[:, first:first + len(W)] = convolve(x, W, b)
    return y


def gunn2d(x, p, update=gradual):
    """The report's layer; p: dict of W1, b1, W2, b2, W3, b3."""
    y = np.maximum(update(x, p["W1"], p["b1"]), 0)
    y = np.maximum(update(y, p["W2"], p["b2"]), 0)
    return update(y, p["W3"], p["b3"]) + x


MOMENTUM = float(np.float32(0.9))  # MXNet's operator keeps it in single precision, whatever its data


class BatchNorms:
    """Normalises by the batch's statistics (biased variance), or by the running ones, which it keeps."""

    def __init__(self, p, train):
        self.p, self.train, self.running = p, train, {}

    def __call__(self, z, name):
        mean, var = self.p[f"{name}.running_mean"], self.p[f"{name}.running_var"]
        if self.train:
            seen = z.mean(axis=(0, 2, 3)), z.var(axis=(0, 2, 3))
            self.running[f"{name}.running_mean"] = MOMENTUM * mean + (1 - MOMENTUM) * seen[0]
            self.running[f"{name}.running_var"] = MOMENTUM * var + (1 - MOMENTUM) * seen[1]
            mean, var = seen
        gamma, beta = self.p[f"{name}.gamma"], self.p[f"{name}.beta"]
        mean, var, gamma, beta = (v[:, None, None] for v in (mean, var, gamma, beta))
        return gamma * (z - mean) / np.sqrt(var + 1e-5) + beta


def original(x, p, K, train, gradually=True):
    """(the original's layer, running statistics afterwards); the shortcut convolution where `p` has its weights."""
    bn, y = BatchNorms(p, train), x.copy()
    for j in range(x.shape[1] // K):
        name, read = f"steps.{j}", y if gradually else x
        z = np.maximum(bn(convolve(read, p[f"{name}.reduce.weight"]), f"{name}.reduce_bn"), 0)
        z = np.maximum(bn(convolve(z, p[f"{name}.conv.weight"]), f"{name}.conv_bn"), 0)
        z = bn(convolve(z, p[f"{name}.expand.weight"]), f"{name}.expand_bn")
        if f"{name}.shortcut.weight" in p:
            z += bn(convolve(read, p[f"{name}.shortcut.weight"]), f"{name}.shortcut_bn")
        y[:, j * K:(j + 1) * K] += z
    return y, bn.running


def parameters(block):
    """Parameters by their names in the block, as NumPy arrays."""
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def randomised(block, seed):
    """The block in float64 with random values everywhere, the same for the same names and shapes."""
    block.initialize()
    block.cast("float64")
    rng = np.random.default_rng(seed)
    for name, p in sorted(block._collect_params_with_prefix().items()):
        positive = name.endswith(("gamma", "running_var"))
        p.set_data(mx.nd.array(rng.uniform(0.5, 1.5, p.shape) if positive else rng.normal(0, 0.2, p.shape),
                               dtype="float64"))
    return block


def forward_backward(block, x, dy, train=True):
    """Dict of the output for x, and, from its gradient dy, of those of x and the parameters; of running statistics
    their values afterwards. float64 throughout."""
    x = mx.nd.array(x, dtype="float64")
    x.attach_grad()
    with mx.autograd.record(train_mode=train):
        y = block(x)
    y.backward(mx.nd.array(dy, dtype="float64"), train_mode=train)
    found = {name: p.data() if p.grad_req == "null" else p.grad()
             for name, p in block._collect_params_with_prefix().items()}
    return {name: array.asnumpy() for name, array in {"output": y, "x": x.grad, **found}.items()}


def assert_same(found, expected, tolerance=1e-10):
    """Two dicts of arrays agree to `tolerance`, of each array's largest entry where that is above 1."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype == np.float64
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * max(1, np.abs(value).max()),
                                   err_msg=name)
