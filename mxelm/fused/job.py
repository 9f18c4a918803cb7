"""The main job: images in, a trained predictor out, in one pass over the training images, no feature stored."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from mxelm.backbones.features import features_of
from mxelm.errors import InputError, MxelmError
from mxelm.fused.confidence import HELD, fit_temperature
from mxelm.fused.gram import Gram
from mxelm.fused.passes import accumulate
from mxelm.fused.predictor import Predictor
from mxelm.fused.projection import calibrate
from mxelm.fused.selection import Selection, select
from mxelm.fused.solver import check_l2
from mxelm.fused.state import ELMState, sorted_digests

if TYPE_CHECKING:
    from mxelm.backbones.backbone import Backbone
    from mxelm.data.dataset import Dataset
    from mxelm.fused.projection import Projection
    from mxelm.fused.state import Origin

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Fit:
    """What `fit` returns: the predictor, the choice it rests on (None for a given l2), the state it was solved from.

    skipped: (id, reason) of images left out by skip_bad. feature_bytes: what the stored features of the same images
    would have taken, float32. validation_bytes: rows of H held for a time to fit the temperature on.
    """

    predictor: Predictor
    selection: Selection
    state: ELMState
    skipped: list
    feature_bytes: int
    validation_bytes: int

    def __repr__(self) -> str:
        return f"<Fit of {self.state.n_samples} images: {self.selection or 'l2 as given'}; {self.predictor}>"


def fit(backbone: Backbone, dataset: Dataset, *, n_neurons: int = 4096, l2: float | Literal["auto"] = "auto",
        validation: float = 0.2, seed: int = 0, spread: float = 1.0, projection: Projection | None = None,
        method: Literal["blas", "paper"] = "blas", batch: int = 32, skip_bad: bool = False,
        interface: Literal["symbol", "gluon"] = "symbol", progress: bool = False) -> Fit:
    """Train an ELM behind `backbone` on `dataset`: accumulate, choose l2 and size, solve.

    l2: a number >= 0, or "auto": chosen with the size by generalized cross-validation, from the accumulated matrices
    alone. validation: for classes, the fraction of images (at most HELD) on which the temperature of confidences is
    fitted, for the model of the others; all count in the end.
    spread: std(XW), which sets W's scale. projection: the W of another run instead of a new one.
    interface: "symbol" or "gluon", which compute the same. Raises InputError for fewer than two classes.
    Source: Arcada, section 2; for quantities there is an intercept besides (mxelm.fused.intercept).
    """
    if l2 != "auto":
        check_l2(l2)
    rest, held_out = _parts(dataset, validation, seed)
    if projection is None:
        projection = calibrate(backbone, dataset, n_neurons, spread=spread, seed=seed)
    options = {"batch": batch, "skip_bad": skip_bad, "progress": progress}
    state, skipped = accumulate(backbone, rest, projection, method=method, interface=interface, **options)
    before, H = state, np.empty((0, projection.n_neurons), np.float32)
    if held_out is not None:  # these images pass through the network once: their rows serve both state and temperature
        features, index, bad = features_of(backbone, held_out, description="validation", **options)
        held_out, skipped, H = held_out.take(index), skipped + bad, projection.hidden(features)
        state = before + state_of_rows(held_out, H, before.origin)
    selection, size, temperature = None, None, None
    if l2 == "auto":
        selection = select(state, progress=lambda l2s: tqdm(l2s, desc="l2 x neurons", unit="l2", disable=not progress))
        l2, size = selection.l2, selection.n_neurons
    if len(H):
        beta, _ = before.solve(l2, size)
        temperature = fit_temperature(H[:, :len(beta)] @ beta, held_out.targets)
    beta, intercept = state.solve(l2, size)
    details = {"l2": l2, "n_samples": state.n_samples, "method": method, "temperature": temperature}
    predictor = Predictor.of(backbone, projection, beta, dataset.classes, kind=dataset.kind, details=details,
                             intercept=intercept)
    return Fit(predictor, selection, state, skipped, 4 * state.n_samples * backbone.n_features, H.nbytes)


def _parts(dataset, validation, seed):
    """(most of the images, those for the temperature or None); InputError where there are not two classes."""
    if dataset.kind != "classes":
        return dataset, None
    counts = np.bincount(dataset.targets)
    if np.count_nonzero(counts) < 2:
        raise InputError(f"{dataset.name} has images of one class alone, {dataset.classes[counts.argmax()]}: there is "
                         "nothing to tell apart; name the folder that holds a folder a class")
    if counts.max() < 2:
        return dataset, None
    if 0 < validation < 1:  # else `split` says so
        validation = min(validation, HELD / len(dataset))
    return dataset.split(validation, seed)


def usual_backbone(dataset: Dataset | tuple = ()) -> str:
    """The name of the network that ships; where the first image is larger than what it sees, a warning says so."""
    for i in range(len(dataset)):
        try:
            height, width = dataset.image(i).shape[:2]
        except MxelmError:  # what cannot be read is told, or skipped, by the pass
            continue
        if min(height, width) > 32:
            log.warning("no network is named, so images of %dx%d pixels go through inception_small, which sees 32x32 "
                        "of them: for photographs name another, such as efficientnet_lite0 (--checkpoint; `mxelm fetch "
                        "efficientnet_lite0`)", width, height)
        break
    return "inception_small"


def state_of_rows(dataset: Dataset, H: np.ndarray, origin: Origin) -> ELMState:
    """The state of rows H float32 (n, n_neurons) that are at hand, in float64."""
    if origin.intercept:
        H = np.column_stack([H, np.ones(len(H), H.dtype)])
    Y = dataset.target_matrix()
    sums = Gram(H.shape[1], dataset.n_outputs)
    sums.add(H, Y)
    yty = float(np.square(Y, dtype=np.float64).sum())
    return ELMState(*sums.matrices(), len(H), yty, origin, sorted_digests(dataset.digests()))
