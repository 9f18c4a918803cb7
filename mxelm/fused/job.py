"""The main job: images in, a trained predictor out, in one pass over the training images, no feature stored."""
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from mxelm.backbones.features import features_of
from mxelm.fused.gram import Gram
from mxelm.fused.passes import accumulate
from mxelm.fused.predictor import Predictor
from mxelm.fused.projection import calibrate
from mxelm.fused.selection import L2_GRID, Selection, select
from mxelm.fused.solver import check_l2, solve
from mxelm.fused.state import ELMState, sorted_digests


@dataclass(frozen=True)
class Fit:
    """What `fit` returns: the predictor, the choice it rests on (None for a given l2), the state it was solved from.

    skipped: (id, reason) of images left out by skip_bad. feature_bytes: what the stored features of the same images
    would have taken, float32. validation_bytes: rows of H held of the validation images, for the choice alone.
    """

    predictor: Predictor
    selection: Selection
    state: ELMState
    skipped: list
    feature_bytes: int
    validation_bytes: int


def fit(backbone, dataset, *, n_neurons=4096, l2="auto", validation=0.2, seed=0, spread=1.0, projection=None,
        method="blas", batch=32, skip_bad=False, interface="symbol", progress=False):
    """Train an ELM behind `backbone` on `dataset`: accumulate, choose l2 and size, solve again on all of it.

    l2: a number >= 0, or "auto": chosen with the size on a `validation` fraction of the images, by accuracy for
    classes and by squared error otherwise; beta is then solved on training + validation states.
    spread: std(XW), which sets the scale of W. projection: the W of another run instead of a new one.
    interface: "symbol" or "gluon", which compute the same.
    Source: Arcada, section 2.
    """
    if l2 != "auto":
        check_l2(l2)
    rest, held_out = dataset.split(validation, seed) if l2 == "auto" else (dataset, None)
    if projection is None:
        projection = calibrate(backbone, rest, n_neurons, spread=spread, seed=seed)
    options = {"method": method, "batch": batch, "skip_bad": skip_bad, "interface": interface, "progress": progress}
    state, skipped = accumulate(backbone, rest, projection, **options)
    selection, H = None, np.empty((0, projection.n_neurons), np.float32)
    if held_out is not None:
        # the validation images pass through the network once; their rows serve the choice and their state
        held = features_of(backbone, held_out, batch=batch, skip_bad=skip_bad, progress=progress,
                           description="validation")
        held_out, skipped = held_out.take(held.index), skipped + held.skipped
        H = projection.hidden(held.rows)
        del held
        held_state = state_of_rows(held_out, H, state.origin)
        selection = _choose(state, held_out, held_state, H, progress)
        state = state + held_state
    l2, size = (selection.l2, selection.n_neurons) if selection else (l2, None)
    beta = solve(state.HtH, state.HtY, l2, size)
    details = {"l2": l2, "n_samples": state.n_samples, "method": method}
    predictor = Predictor.of(backbone, projection, beta, dataset.classes, dataset.kind, details)
    return Fit(predictor, selection, state, skipped, 4 * state.n_samples * backbone.n_features, H.nbytes)


def state_of_rows(dataset, H, origin):
    """The state of rows H float32 (n, n_neurons) that are at hand, in float64."""
    Y = dataset.target_matrix()
    sums = Gram(H.shape[1], dataset.n_outputs)
    sums.add(H, Y)
    yty = float(np.square(Y, dtype=np.float64).sum())
    return ELMState(*sums.matrices(), len(H), yty, origin, sorted_digests(dataset.digests()))


def _choose(state, held_out, held_state, H, progress):
    def bar(l2s):
        return tqdm(l2s, desc="l2 x neurons", unit="l2", disable=not progress)

    if held_out.kind == "classes":
        return select(state, (H, held_out.targets), "accuracy", L2_GRID, progress=bar)
    return select(state, held_state, "mse", L2_GRID, progress=bar)
