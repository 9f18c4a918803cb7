"""Algorithm 2: classifiers at all exits and their thresholds, from the features of one pass."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from tqdm import tqdm

from mxelm.calibration import RULES as FAR_RULES
from mxelm.chain import Chain
from mxelm.early_exit.cascade import Cascade
from mxelm.early_exit.features import exit_features, stream
from mxelm.early_exit.heads import classifier, cross_validated, head, held_out, split_rows
from mxelm.early_exit.placement import candidates, place
from mxelm.early_exit.rules import Judged, far_thresholds, risk_thresholds
from mxelm.errors import InputError

if TYPE_CHECKING:
    from mxelm.backbones import Backbone
    from mxelm.data import Dataset

RULES = (*FAR_RULES, "fixed", "risk")
SCORES = ("held_out", "cross_validated")


@dataclass(frozen=True)
class Recipe:
    """How classifiers and thresholds are made.

    classifier: "svm", "lr", "rf" or a scikit-learn classifier. rule:
        "paper": Algorithm 2 to the letter: held-out scores, then a refit on all images, after which no promise holds
        "conformal": the expected false acceptance rate is within alpha
        "pac": it is so with probability `certainty`
        "risk": the accuracy lost against the last exit is at most max_loss with probability `certainty`
        "fixed": `thresholds` as given, one for each early exit
    scores: "held_out" (a share of the images is set aside, and the promise is exact) or "cross_validated" (all images
    train; the promise is approximate); None: cross-validated for risk alone. weights: see mxelm.calibration.budgets;
    None: "paper" for that rule, else "total". confidence: "top" or "margin"; None: "margin" for risk, else "top".
    fraction: of the images set aside, the talk's 1 - delta. Raises InputError for what is not among these.
    """

    classifier: Any = "svm"
    rule: str = "risk"
    alpha: float = 0.05
    max_loss: float = 0.005
    certainty: float = 0.9
    thresholds: Optional[tuple] = None
    scores: Optional[str] = None
    weights: Optional[str] = None
    confidence: Optional[str] = None
    fraction: float = 0.3
    folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        default = {"scores": "cross_validated" if self.rule == "risk" else "held_out",
                   "weights": "paper" if self.rule == "paper" else "total",
                   "confidence": "margin" if self.rule == "risk" else "top"}
        for name, value in default.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.rule not in RULES:
            raise InputError(f"the rule of the thresholds is one of {', '.join(RULES)}, not {self.rule!r}")
        if self.scores not in SCORES:
            raise InputError(f"scores are one of {', '.join(SCORES)}, not {self.scores!r}")
        if self.rule == "fixed" and self.thresholds is None:
            raise InputError("the rule fixed needs thresholds, one for each early exit")
        for name in ("alpha", "max_loss", "certainty"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")


def fit(backbone: Backbone, dataset: Dataset, exits: Sequence[str] | str, *,
        recipe: Recipe | None = None, batch: int = 32, skip_bad: bool = False, progress: bool = False) -> Cascade:
    """A Cascade for a Dataset with classes: one pass over the images, then classifiers and thresholds.

    backbone: mxelm.backbones.Backbone. exits: as Chain takes them; the backbone's features are the last exit. "auto":
    two or fewer that are placed by measured time at the recipe's max_loss. A
    classifier with `partial_fit` is trained during the pass and never sees more than `batch` rows; what is kept of the
    images is then the features of the held-out ones. Source: Savchenko, Algorithm 2.
    """
    recipe = recipe or Recipe()
    if dataset.kind != "classes" or len(np.unique(dataset.targets)) < 2:
        raise InputError(f"early exit needs images of two classes or more; {dataset.name} has "
                         f"{len(np.unique(dataset.targets))} of kind {dataset.kind}")
    chain, seconds = candidates(backbone) if exits == "auto" else (Chain(backbone, exits), None)
    options = {"batch": batch, "skip_bad": skip_bad, "progress": progress}
    if exits != "auto" and hasattr(recipe.classifier, "partial_fit") and recipe.scores == "held_out":
        heads, thresholds = _fit_stream(chain, dataset, recipe, options)
        return Cascade(chain, heads, thresholds, dataset.classes, confidence=recipe.confidence)
    x, rows = exit_features(chain, dataset, **options)
    y = dataset.targets[rows]
    _require_enough(y, dataset.classes, recipe.folds if exits == "auto" or recipe.scores == "cross_validated" else 2)
    if exits == "auto":
        chosen = _placed(x, y, dataset.n_outputs, recipe, seconds, progress)
        chain, x = Chain(backbone, [chain.exits[m] for m in chosen[:-1]]), [x[m] for m in chosen]
    heads, thresholds = fit_rows(x, y, dataset.n_outputs, recipe, seconds=seconds_of(chain), names=chain.exits)
    return Cascade(chain, heads, thresholds, dataset.classes, confidence=recipe.confidence)


def _require_enough(y, classes, needed):
    """Folds and held-out parts want some images of every class; a class without any is learnt by none."""
    counts = np.bincount(y, minlength=len(classes))
    fewest = min((int(count), name) for count, name in zip(counts, classes) if count)
    if fewest[0] < needed:
        raise InputError(f"class {fewest[1]} has {fewest[0]} image{'s' * (fewest[0] > 1)}: early exit needs {needed} "
                         "or more of each class, to judge classifiers by images that they have not seen")


def _placed(x, y, n_classes, recipe, seconds, progress):
    """The exits, by number, that `place` chooses by cross-validated scores."""
    scores = [cross_validated(recipe.classifier, part, y, n_classes, folds=recipe.folds, seed=recipe.seed)
              for part in tqdm(x, desc="candidates for exits", disable=not progress, leave=False)]
    return place(Judged(scores, y, recipe.confidence), seconds, recipe.max_loss)[0]


def fit_rows(x: Sequence[np.ndarray], y: np.ndarray, n_classes: int, recipe: Recipe, *,
             seconds: np.ndarray | None = None, names: Sequence[str] | None = None) -> tuple[list, np.ndarray]:
    """The classifiers' heads and thresholds (M,) from features of all exits.

    x: M arrays (n, d_m). y: int (n,). seconds: (M,) up to each exit, which risk needs. names: the exits'.
    """
    if recipe.scores == "held_out":
        made = [held_out(recipe.classifier, part, y, n_classes, fraction=recipe.fraction, seed=recipe.seed)
                for part in x]
        heads, scores, rest = [m[0] for m in made], [m[1] for m in made], made[0][2]
    else:
        scores = [cross_validated(recipe.classifier, part, y, n_classes, folds=recipe.folds, seed=recipe.seed)
                  for part in x]
        rest = np.arange(len(y))
    if recipe.rule == "paper" or recipe.scores == "cross_validated":  # line 13: retrain with all
        heads = [head(classifier(recipe.classifier, recipe.seed).fit(part, y), n_classes) for part in x]
    return heads, thresholds_of(scores, y[rest], recipe, seconds=seconds, names=names)


def thresholds_of(scores: Sequence[np.ndarray], y: np.ndarray, recipe: Recipe, *,
                  seconds: np.ndarray | None = None, names: Sequence[str] | None = None) -> np.ndarray:
    """The thresholds (M,) of a recipe from scores of rows that the classifiers have not seen, M arrays (n, C)."""
    if recipe.rule == "fixed":
        return np.array([*recipe.thresholds, -np.inf])
    if recipe.rule == "risk":
        return risk_thresholds(scores, y, recipe.max_loss, seconds, certainty=recipe.certainty,
                               confidence=recipe.confidence, seed=recipe.seed)
    return far_thresholds(scores, y, recipe.alpha, rule=recipe.rule, weights=recipe.weights,
                          confidence=recipe.confidence, pac=recipe.certainty, names=names)


def seconds_of(chain: Chain, batch: int = 1, **options: Any) -> np.ndarray:
    """Seconds from the start up to each exit, float64 (M,), measured (mxelm.chain.Chain.seconds)."""
    return np.cumsum(chain.seconds(batch, **options))


def _fit_stream(chain, dataset, recipe, options):
    y, n_classes = dataset.targets, dataset.n_outputs
    _, rest = split_rows(y, recipe.fraction, recipe.seed)
    aside = np.isin(np.arange(len(y)), rest)
    fitted = [classifier(recipe.classifier, recipe.seed) for _ in chain.exits]
    kept = []
    for x, rows in stream(chain, dataset, **options):
        train = ~aside[rows]
        if train.any():
            for estimator, part in zip(fitted, x):
                estimator.partial_fit(part[train], y[rows[train]], classes=np.arange(n_classes))
        if not train.all():
            kept.append(([part[~train] for part in x], rows[~train]))
    held, rest = [np.concatenate(part) for part in zip(*(x for x, _ in kept))], np.concatenate([r for _, r in kept])
    scores = [head(estimator, n_classes)(part) for estimator, part in zip(fitted, held)]
    thresholds = thresholds_of(scores, y[rest], recipe, seconds=seconds_of(chain), names=chain.exits)
    if recipe.rule == "paper":
        for estimator, part in zip(fitted, held):
            estimator.partial_fit(part, y[rest])
    return [head(estimator, n_classes) for estimator in fitted], thresholds
