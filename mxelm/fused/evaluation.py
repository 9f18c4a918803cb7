"""How good a predictor is on a set: accuracy and confusion for classes, squared error otherwise."""
from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import confusion_matrix, mean_squared_error, r2_score

from mxelm.backbones.features import features_of
from mxelm.errors import InputError
from mxelm.fused.confidence import calibration_error, fit_temperature
from mxelm.fused.predictor import decide

if TYPE_CHECKING:
    from mxelm.data.dataset import Dataset
    from mxelm.fused.predictor import Predictor


def evaluate(predictor: Predictor, dataset: Dataset, *, skip_bad: bool = False,
             progress: bool = False) -> tuple[dict, np.ndarray | None]:
    """(JSON-able figures, confusion matrix int (n_classes, n_classes) or None) of `predictor` on `dataset`.

    Classes are matched by name; the dataset may hold fewer than the predictor knows, in any order. Rows of the
    confusion matrix are true classes, columns predicted ones. calibration_error: of the predictor's confidences, as
    mxelm.fused.confidence has it; None where it gives none.
    Raises InputError for a class the predictor does not know.
    """
    columns = _columns(predictor, dataset)
    scores, rows, skipped = features_of(predictor.network, dataset, skip_bad=skip_bad, progress=progress,
                                        description="evaluate")
    dataset = dataset.take(rows)
    result = {"n_samples": len(dataset), "skipped": [list(entry) for entry in skipped]}
    if dataset.kind != "classes":
        scores = scores[:, columns]
        if dataset.kind == "multilabel":
            decided = decide(scores, dataset.kind)
            result["exact_match"] = float((decided == dataset.targets).all(axis=1).mean())
            result["label_accuracy"] = float((decided == dataset.targets).mean())
        return {**result, "mse": float(mean_squared_error(dataset.targets, scores)),
                "r2": float(r2_score(dataset.targets, scores))}, None
    truth = columns[dataset.targets]
    confusion = confusion_matrix(truth, scores.argmax(axis=1), labels=np.arange(len(predictor.classes)))
    per_class = confusion.diagonal()[confusion.sum(axis=1) > 0] / confusion.sum(axis=1)[confusion.sum(axis=1) > 0]
    present = [name for name, count in zip(predictor.classes, confusion.sum(axis=1)) if count]
    probabilities = predictor.confidences(scores) if predictor.gives_confidences else None
    return {**result, "calibration_error": None if probabilities is None else calibration_error(probabilities, truth),
            "accuracy": float(np.trace(confusion) / confusion.sum()),
            "mean_per_class": float(per_class.mean()),
            "per_class": {name: float(value) for name, value in zip(present, per_class)}}, confusion


def fit_confidences(predictor: Predictor, dataset: Dataset, *, progress: bool = False) -> list:
    """Fit the temperature of a predictor's confidences on images that it has not learnt, in place.

    Returns (id, reason) of the images that cannot be read. Raises InputError for a class the predictor does not know,
    and where there are no classes.
    """
    if dataset.kind != "classes":
        raise InputError(f"confidences are for classes, {dataset.name} has {dataset.kind} targets")
    columns = _columns(predictor, dataset)
    scores, rows, skipped = features_of(predictor.network, dataset, skip_bad=True, progress=progress,
                                        description="confidences")
    predictor.details["temperature"] = fit_temperature(scores, columns[dataset.take(rows).targets])
    return skipped


def _columns(predictor, dataset):
    """The predictor's column of each class of `dataset`, int64 (n_outputs,); InputError where it has none."""
    names = [unicodedata.normalize("NFC", name) for name in predictor.classes]
    unknown = [name for name in dataset.classes if name not in names]
    if unknown or dataset.kind != predictor.kind:
        raise InputError(f"the model was trained on {predictor.kind} {names[:5]}..., the set {dataset.name} has "
                         f"{dataset.kind} {(unknown or list(dataset.classes))[:5]}")
    return np.array([names.index(name) for name in dataset.classes])
