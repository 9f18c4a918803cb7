"""mxelm solve: a trained checkpoint from accumulated states, without an image."""
from __future__ import annotations

import argparse

from mxelm.cli import options
from mxelm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("states", metavar="STATE", nargs="+",
                        help="one state, or several of disjoint samples, which are added")
    options.add_backbone(parser)
    parser.add_argument("--l2", type=options.l2_value, default="auto",
                        help="a number >= 0, or auto: by --validation, else by cross-validation with each of several "
                             "states as a fold, else by generalized cross-validation")
    parser.add_argument("--neurons", type=options.positive, help="a smaller model; otherwise chosen with l2")
    parser.add_argument("--validation", metavar="STATE", help="a state of validation images, for the choice alone")
    parser.add_argument("--picture", metavar="FILE", help="draw the errors of the (l2, neurons) grid")
    parser.add_argument("--out", required=True, type=options.prefix, metavar="PREFIX", help="the checkpoint to write")


def run(args: argparse.Namespace) -> dict:
    from mxelm import fused
    from mxelm.files import require_writable
    require_writable(f"{args.out}-symbol.json")
    if args.picture:
        require_writable(args.picture)
    states = [options.load_state(path) for path in args.states]
    state = fused.merge(states)
    if state.origin is None:
        raise InputError(f"{args.states[0]} does not say which backbone it belongs to")
    backbone = options.load_backbone(args)
    if backbone.digest != state.origin.backbone or backbone.preprocessing != state.origin.preprocessing:
        raise InputError(f"{args.checkpoint} is not the backbone of {args.states[0]}: give its --checkpoint, --cut and "
                         "--preprocessing")
    choice, l2, size = None, args.l2, args.neurons
    if l2 == "auto":
        choice = _choose(states, state, args)
        l2, size = choice.l2, choice.n_neurons
    beta = fused.solve(state.HtH, state.HtY, l2, size)
    origin = state.origin
    fused.Predictor.of(backbone, origin.projection, beta, origin.classes, origin.kind,
                       {"l2": l2, "n_samples": state.n_samples}).save(args.out)
    if choice and args.picture:
        from mxelm.reporting.plots import grid_heatmap
        grid_heatmap(args.picture, choice.grid, l2s=choice.l2s, sizes=choice.sizes, chosen=(l2, size),
                     error=f"{choice.criterion}, squared error a sample")
    return {"checkpoint": args.out, "l2": l2, "n_neurons": len(beta), "n_samples": state.n_samples,
            "criterion": choice and choice.criterion, "best": choice and choice.best}


def _choose(states, state, args):
    from mxelm.fused import select
    sizes = [args.neurons] if args.neurons else None
    if args.validation:
        held_out = options.load_state(args.validation)
        _require_held_out(state, held_out, args.validation)
        return select(state, held_out, "mse", sizes=sizes)
    if len(states) > 1:
        return select(states, criterion="cv", sizes=sizes)
    return select(state, criterion="gcv", sizes=sizes)


def _require_held_out(state, held_out, path):
    """Refuse a validation state of another run, or of images that the model is trained on."""
    try:
        state + held_out
    except InputError as error:
        raise InputError(f"{path} cannot be the validation of this state: {error}") from None


def show(result: dict) -> None:
    if result["criterion"]:
        print(f"chosen by {result['criterion']} {result['best']:.5g}")
    print(f"l2 {result['l2']:g}, {result['n_neurons']} neurons, {result['n_samples']} images")
    print(f"wrote {result['checkpoint']}-symbol.json, {result['checkpoint']}-0000.params, {result['checkpoint']}.json")
