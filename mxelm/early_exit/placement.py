"""Where to put the exits: by measured seconds and held-out scores, not by multiplications."""
from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from mxelm.chain import Chain
from mxelm.early_exit.rules import Judged, path
from mxelm.errors import InputError
from mxelm.graphs import segments

if TYPE_CHECKING:
    from mxelm.backbones import Backbone


def candidates(backbone: Backbone, count: int = 10) -> tuple[Chain, np.ndarray]:
    """Layers at which one map alone crosses, `count` of them even in measured time: (chain, seconds up to each exit).

    seconds: float64 (M,), one image. Raises InputError for a network without such a layer.
    """
    symbol = backbone.features
    known = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    outputs = [name for name in symbol.get_internals().list_outputs() if name not in known][:-1]
    single = [name for name in outputs if _alone(symbol, name)]
    if not single:
        raise InputError(f"{backbone.name} has no layer at which one map alone crosses: name the exits")
    chain = Chain(backbone, single)
    shares = np.cumsum(chain.seconds(1, repeats=5))
    wanted = np.linspace(0, shares[-1], count + 2)[1:-1]
    places = sorted({int(np.argmin(abs(shares[:-1] - share))) for share in wanted})
    return Chain(backbone, [single[place] for place in places]), shares[[*places, -1]]


def _alone(symbol, name):
    """Whether nothing else crosses a cut at `name`, and it is a map: what follows is not of fully connected layers."""
    first, rest = segments(symbol, [name])
    return first.crossings == () and rest.inputs == (first.exit,) and "FullyConnected" not in first.symbol.tojson()


def place(judged: Judged, seconds: np.ndarray, max_loss: float, *, n_exits: int = 2,
          decision: float = 0.0) -> tuple[tuple[int, ...], np.ndarray, float]:
    """The early exits with the least expected time at an allowed loss: (exits, thresholds, seconds).

    judged: rules.Judged of held-out rows at all candidates, the last among them. seconds: (candidates,), from the start
    up to each. max_loss: accuracy that may be lost, 0..1. n_exits: so many or fewer. decision: seconds that one exit's
    decision takes. exits: candidates by number, rising, the last included. All sets are tried for up to two exits,
    beyond that one is added at a time. Raises InputError for more exits than there are candidates.
    """
    last = len(seconds) - 1
    if not 1 <= n_exits <= last:
        raise InputError(f"there are {last} candidates for early exits, {n_exits} are wanted")
    sets = [(*exits, last) for count in (1, 2)[:n_exits] for exits in itertools.combinations(range(last), count)]
    while True:
        found = [_best(judged, seconds, max_loss, decision, exits) for exits in sets]
        chosen = min(found, key=lambda one: one[2])
        if len(chosen[0]) - 1 < len(sets[-1]) - 1 or len(sets[-1]) - 1 == n_exits:
            return chosen
        sets = [chosen[0], *(tuple(sorted({*chosen[0], m})) for m in range(last) if m not in chosen[0])]


def curve(known: Judged, judged: Judged, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy against mean seconds a row, two arrays, from nobody leaving to everybody at the first exit.

    known: rules.Judged of other rows, which lay out the path of thresholds; judged: of the rows that are scored.
    """
    family = path(known, seconds, net=True)
    return (np.array([judged.seconds(t, seconds) for t in family]),
            np.array([(judged.answers(t) == judged.y).mean() for t in family]))


def area(seconds: np.ndarray, accuracies: np.ndarray) -> float:
    """Area under a curve: mean accuracy over the time, as shares of the whole network's, from the first exit's on."""
    order = np.argsort(seconds)
    times, heights = np.asarray(seconds)[order], np.maximum.accumulate(np.asarray(accuracies)[order])
    return float(np.trapz(heights, times) / (times[-1] - times[0]) / accuracies[0])


def _best(judged, seconds, max_loss, decision, exits):
    part = judged.of_exits(list(exits))
    with_decisions = np.asarray(seconds)[list(exits)] + decision * np.arange(1, len(exits) + 1)
    family = path(part, with_decisions, net=True)
    allowed = [t for t in family if part.loss(t) <= max_loss]
    fastest = min(allowed, key=lambda t: part.seconds(t, with_decisions))
    return exits, fastest, part.seconds(fastest, with_decisions)
