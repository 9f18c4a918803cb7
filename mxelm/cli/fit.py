"""mxelm fit: images in, a trained checkpoint out."""
from mxelm.cli import options


def add_arguments(parser):
    options.add_data(parser)
    parser.add_argument("--checkpoint", default="inception_small", metavar="PREFIX",
                        help="PREFIX of PREFIX-symbol.json and PREFIX-NNNN.params, or a known name")
    parser.add_argument("--epoch", type=int, help="the checkpoint's number, as in Inception21k-0009.params")
    parser.add_argument("--cut", default="flatten_output", help="the internal output whose features are used")
    parser.add_argument("--preprocessing", metavar="JSON", help="the network's preprocessing, if not in PREFIX.json")
    parser.add_argument("--neurons", type=options.positive, default=4096, help="hidden neurons L; fewer may be chosen")
    parser.add_argument("--l2", type=options.l2_value, default="auto", help="a number >= 0, or auto: by validation")
    parser.add_argument("--scale", type=float, default=1.0, help="standard deviation of XW, which sets W's scale")
    parser.add_argument("--validation", type=float, default=0.2, help="fraction of images to choose l2 and size on")
    parser.add_argument("--seed", type=int, default=0, help="of W and of the split")
    parser.add_argument("--like", metavar="STATE", help="use the W of this state")
    parser.add_argument("--method", choices=("blas", "paper"), default="blas", help="paper: float32, as printed")
    parser.add_argument("--batch", type=options.positive, default=32, help="images a batch")
    parser.add_argument("--out", required=True, metavar="PREFIX", help="the checkpoint to write")
    parser.add_argument("--state", metavar="FILE", help="also keep the accumulated matrices here")
    options.add_ctx(parser)


def run(args):
    from mxelm.files import read_json, require_writable
    require_writable(f"{args.out}-symbol.json")
    if args.state:
        require_writable(args.state)
    from mxelm import backbones, fused
    from mxelm.preprocessing import Preprocessing
    given = Preprocessing.from_json(read_json(args.preprocessing)) if args.preprocessing else None
    dataset = options.load_data(args)
    backbone = backbones.load(args.checkpoint, args.epoch, cut=args.cut, preprocessing=given, ctx=args.ctx)
    projection = fused.ELMState.load(args.like).origin.projection if args.like else None
    done = fused.fit(backbone, dataset, args.neurons, args.l2, args.validation, args.seed, args.scale, projection,
                     args.method, args.batch, args.skip_bad, progress=not args.json)
    done.predictor.save(args.out)
    if args.state:
        done.state.save(args.state)
    return summary(done, args.out)


def summary(done, prefix):
    """What there is to say of a finished fit, JSON-able."""
    choice = done.selection
    return {
        "checkpoint": prefix,
        "l2": done.predictor.details["l2"],
        "n_neurons": done.predictor.details["n_neurons"],
        "n_samples": done.state.n_samples,
        "classes": len(done.predictor.classes),
        "validation": None if choice is None else {"criterion": choice.criterion, "best": choice.best,
                                                   "models": int(choice.grid.size)},
        "state_bytes": done.state.nbytes,
        "feature_bytes": done.feature_bytes,
        "validation_bytes": done.validation_bytes,
        "skipped": [list(entry) for entry in done.skipped],
    }


def show(result):
    for name, reason in result["skipped"]:
        print(f"skipped {name}: {reason}")
    if result["validation"]:
        choice = result["validation"]
        print(f"chosen of {choice['models']} models by validation {choice['criterion']} {choice['best']:.4f}: "
              f"l2 {result['l2']:g}, {result['n_neurons']} neurons")
    print(f"{result['n_samples']} images, {result['classes']} outputs; kept {result['state_bytes']:,} bytes where "
          f"their features take {result['feature_bytes']:,} (and grow with every image)")
    print(f"wrote {result['checkpoint']}-symbol.json, {result['checkpoint']}-0000.params, {result['checkpoint']}.json")
