"""mxelm solve: a trained checkpoint from accumulated states, without an image."""
from __future__ import annotations

import argparse
import os

from mxelm.cli import options
from mxelm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("states", metavar="STATE", nargs="+",
                        help="one state, or several of disjoint samples, which are added")
    options.add_backbone(parser, usual="where the state was made with it", cut=None)
    parser.add_argument("--l2", type=options.l2_value, default="auto",
                        help="a number >= 0, or auto: by --validation or --folds, else by generalized cross-validation")
    parser.add_argument("--neurons", type=options.positive, help="a smaller model; otherwise chosen with l2")
    by = parser.add_mutually_exclusive_group()
    by.add_argument("--validation", metavar="STATE", help="a state of validation images, for the choice alone")
    by.add_argument("--folds", action="store_true", help="choose by cross-validation, each state a fold")
    parser.add_argument("--confidences", metavar="PATH", help="images held out, as --images of `mxelm fit`, on which "
                                                              "confidences are calibrated")
    parser.add_argument("--picture", metavar="FILE", help="draw the errors of the (l2, neurons) grid")
    parser.add_argument("--out", required=True, type=options.prefix, metavar="PREFIX", help="the checkpoint to write")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    options.require_out(f"{args.out}-symbol.json", *([args.picture] if args.picture else []))
    states = [options.load_state(path) for path in args.states]
    state = fused.merge(states)
    backbone = _backbone(args, state.origin)
    choice, l2, size = None, args.l2, args.neurons
    if l2 == "auto":
        choice = _choose(states, state, args)
        l2, size = choice.l2, choice.n_neurons
    beta, intercept = state.solve(l2, size)
    origin = state.origin
    predictor = fused.Predictor.of(backbone, origin.projection, beta, origin.classes, kind=origin.kind,
                                   details={"l2": l2, "n_samples": state.n_samples}, intercept=intercept)
    skipped = _fit_confidences(predictor, state, args) if args.confidences else []
    predictor.save(args.out)
    if choice and args.picture:
        from mxelm.fused.selection import CRITERIA
        from mxelm.reporting.plots import grid_heatmap
        grid_heatmap(args.picture, choice.grid, l2s=choice.l2s, sizes=choice.sizes, chosen=(l2, size),
                     error=CRITERIA[choice.criterion])
    return {"checkpoint": args.out, "l2": l2, "n_neurons": len(beta), "n_samples": state.n_samples,
            "choice": options.choice_summary(choice), "temperature": predictor.temperature,
            "skipped": [list(entry) for entry in skipped]}


def _backbone(args, origin):
    """The backbone of a state: where the state says it lies, unless --checkpoint does."""
    if origin is None or not (args.checkpoint or origin.place):
        raise InputError(f"{args.states[0]} does not say where its backbone lies: give --checkpoint")
    place = origin.place
    given = options.backbone_arguments(args)
    if not args.checkpoint:
        given.update(prefix=place["prefix"], epoch=args.epoch or place["epoch"])
    given.update(cut=args.cut or origin.cut, preprocessing=given["preprocessing"] or origin.preprocessing.to_json())
    backbone = options.read_backbone(args, **given)
    if backbone.digest != origin.backbone or backbone.preprocessing != origin.preprocessing:
        raise InputError(f"{given['prefix']} is not the backbone of {args.states[0]}: give its --checkpoint, --cut and "
                         "--preprocessing")
    return backbone


def _choose(states, state, args):
    from mxelm.fused import select
    sizes = [args.neurons] if args.neurons else None
    if args.folds:
        return select(states, criterion="cv", sizes=sizes)
    if not args.validation:
        return select(state, sizes=sizes)
    held_out = options.load_state(args.validation)
    _require_held_out(state, held_out, args.validation)
    return select(state, held_out, sizes=sizes)


def _require_held_out(state, held_out, path):
    """Refuse a validation state of another run, or of images that the model is trained on."""
    try:
        state + held_out
    except InputError as error:
        raise InputError(f"{path} cannot be the validation of this state: {error}") from None


def _fit_confidences(predictor, state, args):
    """Calibrate on the images of --confidences, which the state must not hold; those that cannot be read."""
    from mxelm import data
    from mxelm.fused.evaluation import fit_confidences
    from mxelm.fused.state import difference
    held_out = data.load(os.path.join(os.curdir, args.confidences))
    learnt = len(held_out) - len(difference(held_out.digests(), state.samples))
    if learnt:
        raise InputError(f"{learnt} of the {len(held_out)} images of {args.confidences} are in the state: confidences "
                         "need images that the model has not learnt")
    return fit_confidences(predictor, held_out, progress=options.progress(args))


def show(result: dict) -> None:
    options.show_skipped(result)
    print(f"{result['n_samples']} images")
    options.show_choice(result)
    if result["temperature"]:
        print(f"confidences are the softmax of scores / {result['temperature']:.3g}")
    print(f"wrote {result['checkpoint']}-symbol.json, {result['checkpoint']}-0000.params, {result['checkpoint']}.json")
