"""Where to put the exits: by measured seconds and held-out scores, not by multiplications."""
import itertools

import numpy as np

from mxelm.early_exit.rules import path
from mxelm.errors import InputError


def place(judged, seconds, max_loss, *, n_exits=2, decision=0.0):
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


def curve(judged, seconds):
    """Accuracy against mean seconds a row along the path of thresholds, two arrays, from nobody leaving on."""
    family = path(judged, seconds, net=True)
    return (np.array([judged.seconds(t, seconds) for t in family]),
            np.array([(judged.answers(t) == judged.y).mean() for t in family]))


def area(seconds, accuracies):
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
