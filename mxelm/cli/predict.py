"""mxelm predict: the best classes of images."""
from mxelm.cli import options


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL", help="PREFIX of a checkpoint that `mxelm fit` wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--top", type=options.positive, default=5, help="how many classes to name")
    options.add_ctx(parser)


def run(args):
    from mxelm.data.decode import read_image
    from mxelm.fused import Predictor
    predictor = Predictor.load(args.model, args.ctx)
    rows = {}
    for path in args.images:
        scores = predictor.scores([read_image(path)])[0]
        order = scores.argsort()[::-1][:args.top] if predictor.kind == "classes" else range(len(scores))
        rows[path] = [[predictor.classes[i], float(scores[i])] for i in order]
    return {"kind": predictor.kind, "predictions": rows}


def show(result):
    for path, best in result["predictions"].items():
        print(path)
        for name, score in best:
            print(f"  {score:8.3f}  {name}")
