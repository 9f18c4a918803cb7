"""A backbone run segment by segment: to stop asking is to stop the network, and rows can be dropped on the way.

    chain = Chain(backbone, ["block6_add_output", "block11_project_output"])
    for exit, maps in chain.run(x):          # maps (n, c, h, w) of two exits, then the backbone's features (n, d)
        going_on = ...                       # decided by `maps`
        chain.keep(going_on)                 # only these rows are computed further

Each segment is bound for the exact number of rows that arrives, and reads the outputs of the one before without a copy.
"""
from __future__ import annotations

import contextlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mxelm.errors import InputError, require_choice
from mxelm.graphs import cut, fusible, keeps_numbers, segments
from mxelm.runtime import mx, without_lines

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone

INTERFACES = ("symbol", "gluon")
TOLERANCE = 1e-4  # relative; fusion by itself moves the sixth digit, a wrong segment the first


class Chain:
    """A Backbone split at `exits`; the last exit is the backbone's own features.

    exits: names of internal outputs or layers, in the order of computation. interface: "symbol" (a bound executor for
    each number of rows) or "gluon" (a hybridized block a segment). memory: bytes that the executors of a segment may
    take, as `_Bound` reckons them, before those longest unused are given up; a block keeps what MXNet keeps. One run at
    a time; maps are valid until the next segment runs.
    difference: the `agreement` at one image of noise, which every chain is tried with.
    Raises InputError for exits that do not exist or are out of order, and where the difference tells of wrong fusion.
    """

    def __init__(self, backbone: Backbone, exits: Sequence[str], *, interface: Literal["symbol", "gluon"] = "symbol",
                 memory: float = 4e9) -> None:
        require_choice("interface", interface, INTERFACES)
        self.backbone = backbone
        self.interface = interface
        self.segments = segments(backbone.features, exits)
        self.exits = tuple(segment.exit for segment in self.segments)
        self._read_after = [{name for later in self.segments[number + 1:] for name in later.inputs}
                            for number in range(len(self.segments))]
        arrays, aux = ({name: array.copyto(backbone.ctx) for name, array in kind.items()}
                       for kind in backbone.feature_params())
        piece = _Bound if interface == "symbol" else _Block
        self._pieces = [piece(segment.symbol, segment.inputs, arrays, aux, backbone.ctx, memory)
                        for segment in self.segments]
        self._values, self._next = {}, 0
        self.difference = self.agreement(self.noise(1))
        if np.isnan(self.difference):
            raise InputError(f"{backbone.name} gives numbers that are not finite for an image of noise: check its "
                             "weights and preprocessing")
        if not self.difference <= TOLERANCE:  # fusion at bind can make a segment silently wrong
            raise InputError(f"{backbone.name} cut at {', '.join(self.exits[:-1])} differs from the whole network by "
                             f"{self.difference:.1e}: set MXNET_SUBGRAPH_BACKEND=NONE before MXNet loads")

    def run(self, x: np.ndarray | mx.nd.NDArray) -> Iterator[tuple[str, mx.nd.NDArray]]:
        """Yield (exit, maps) segment by segment; maps are NDArrays (n, c, h, w), at last the features (n, n_features).

        x: preprocessed images, float32 (n, channels, height, width), NumPy array or NDArray.
        Raises InputError for images of another shape.
        """
        shape = self.backbone.preprocessing.shape
        if tuple(x.shape[1:]) != shape:
            raise InputError(f"{self.backbone.name} takes images of shape {shape}, got {tuple(x.shape[1:])}: use its "
                             "preprocessing")
        self._values = {"data": self._fed(x)}
        for number, (segment, piece) in enumerate(zip(self.segments, self._pieces)):
            outputs = piece(self._values)
            named = {**self._values, **dict(zip(segment.outputs, outputs))}
            self._values = {name: value for name, value in named.items() if name in self._read_after[number]}
            self._next = number + 1
            yield segment.exit, outputs[0]
            if not self._values:  # nothing is kept
                return

    def keep(self, rows: Sequence[int] | np.ndarray) -> None:
        """Between two yields: compute only `rows` further; an empty list ends the run.

        rows: rising positions in the maps yielded last.
        """
        rows = np.asarray(rows, np.int64)
        if not self._values:
            return
        n = len(next(iter(self._values.values())))
        if len(rows) and (rows[0] < 0 or rows[-1] >= n or (np.diff(rows) < 1).any()):
            raise InputError(f"rows to keep must be rising positions in 0..{n - 1}, got {rows.tolist()[:8]}")
        if not len(rows):
            self._values = {}  # an NDArray cannot have zero rows
        elif len(rows) < n:
            self._values = {name: self._gathered(name, value, rows) for name, value in self._values.items()}

    def seconds(self, batch: int, *, repeats: int = 20, clock: Callable[[], float] = time.perf_counter) -> np.ndarray:
        """Seconds that each segment takes for `batch` rows, float64 (n_segments,): medians of runs in turn.

        clock: `time.process_time` counts this process's CPU-seconds, which a busy machine does not lengthen.
        """
        x = self.noise(batch)
        taken = np.empty((repeats + 2, len(self.segments)))
        for one_run in taken:
            start = clock()
            for number, (_, maps) in enumerate(self.run(x)):
                maps.wait_to_read()
                one_run[number] = clock() - start
                start = clock()
        return np.median(taken[2:], axis=0)

    def agreement(self, x: np.ndarray | mx.nd.NDArray) -> float:
        """The largest relative difference of an exit's maps to those of the whole network without fusion."""
        symbol = self.backbone.features
        heads = mx.sym.Group([*(cut(symbol, exit) for exit in self.exits[:-1]), symbol])
        whole = _Bound(heads, ("data",), *self.backbone.feature_params(), self.backbone.ctx, 0)
        with unfused():
            expected = whole({"data": self._fed(x)})
        return max(_relative(maps, wanted) for (_, maps), wanted in zip(self.run(x), expected))

    def _fed(self, x):
        """`x` in the array that the first segment reads, where it is bound for so many rows already."""
        array = self._pieces[0].target("data", len(x))
        if array is None:
            return mx.nd.array(x, ctx=self.backbone.ctx, dtype="float32")
        array[:] = x
        return array

    def _gathered(self, name, value, rows):
        target = self._pieces[self._next].target(name, len(rows))
        return mx.nd.take(value, mx.nd.array(rows, ctx=value.context, dtype="int32"), out=target)

    def noise(self, batch: int) -> mx.nd.NDArray:
        """Normal numbers in the shape of `batch` images, float32: to measure and to compare with."""
        shape = (batch, *self.backbone.preprocessing.shape)
        return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


class _Bound:
    """A segment as executors, one for each number of rows, those last used as far as `memory` lasts.

    An executor reads the very arrays it is first given: the outputs of the executor before it, of the same rows. Its
    bytes are reckoned as those of all operators' outputs and weights: two to four times what it takes once MXNet has
    fused.
    """

    def __init__(self, symbol, inputs, arrays, aux, ctx, memory):
        self.symbol, self.inputs, self.ctx, self.memory = fusible(symbol), inputs, ctx, memory
        self.arrays = {name: arrays[name] for name in symbol.list_arguments() if name not in inputs}
        self.aux = {name: aux[name] for name in symbol.list_auxiliary_states()}
        self.executors = OrderedDict()  # number of rows -> executor
        self.taken = {}  # number of rows -> its bytes

    def __call__(self, values):
        """The outputs, a list of NDArrays that the next call with as many rows overwrites. values: name -> NDArray."""
        rows = len(values[self.inputs[0]])
        if rows not in self.executors:
            self.executors[rows] = self._bind({name: values[name] for name in self.inputs})
            self.taken[rows] = self._bytes({name: values[name].shape for name in self.inputs})
            while len(self.executors) > 1 and sum(self.taken.values()) > self.memory:
                del self.taken[self.executors.popitem(last=False)[0]]
        self.executors.move_to_end(rows)
        executor = self.executors[rows]
        for name in self.inputs:
            if executor.arg_dict[name] is not values[name]:
                values[name].copyto(executor.arg_dict[name])
        return executor.forward(is_train=False)

    def target(self, name, rows):
        """The array that input `name` is read from for so many rows, or None."""
        return self.executors[rows].arg_dict.get(name) if rows in self.executors else None

    def _bytes(self, shapes):
        _, outputs, _ = self.symbol.get_internals().infer_shape(**shapes)
        return 4 * sum(math.prod(shape) for shape in outputs)

    def _bind(self, inputs):
        try:
            with without_lines("is disabled.", "subgraph backend is not in use"):  # MXNet prints both at every bind
                return self.symbol.bind(self.ctx, {**self.arrays, **inputs}, grad_req="null", aux_states=self.aux)
        except mx.MXNetError as error:
            shapes = {name: array.shape for name, array in inputs.items()}
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"MXNet cannot bind a segment to {shapes}: {reason}; is the batch too large?") from None


class _Block:
    """A segment as a hybridized gluon.SymbolBlock, fused by oneDNN at the first call where MXNet can."""

    def __init__(self, symbol, inputs, arrays, aux, ctx, memory):
        self.inputs = inputs
        self.block = mx.gluon.SymbolBlock(symbol, [mx.sym.var(name, dtype="float32") for name in inputs])
        parameters = self.block.collect_params()
        parameters.load_dict({name: array for name, array in {**arrays, **aux}.items() if name in parameters}, ctx)
        self.block.hybridize(static_alloc=True)
        self.fuses = ctx.device_type == "cpu" and keeps_numbers(symbol)

    def __call__(self, values):
        inputs = [values[name] for name in self.inputs]
        with mx.autograd.pause(train_mode=False):
            if self.fuses:
                self._fuse(inputs)
            outputs = self.block(*inputs)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _fuse(self, inputs):
        """What MXNet does with a bound Symbol by itself; it fails for some segments that read several arrays."""
        self.fuses = False
        if os.environ.get("MXNET_SUBGRAPH_BACKEND") != "NONE":
            try:
                self.block.optimize_for(*inputs, backend="MKLDNN", static_alloc=True)
            except mx.MXNetError:
                self.block.hybridize(static_alloc=True)

    def target(self, name, rows):
        """None: a block takes any array."""


@contextlib.contextmanager
def unfused() -> Iterator[None]:
    """Bind without fusion in the block: the reference for inner outputs."""
    before = os.environ.get("MXNET_SUBGRAPH_BACKEND")
    os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MXNET_SUBGRAPH_BACKEND"]
        else:
            os.environ["MXNET_SUBGRAPH_BACKEND"] = before


def _relative(maps, wanted):
    maps, wanted = maps.asnumpy(), wanted.asnumpy()
    return float(np.abs(maps - wanted).max() / (np.abs(wanted).max() or 1))
