"""mxelm maps: feature maps seen, cached, matched, and looked up."""
from __future__ import annotations

import argparse

from mxelm.cli import options
from mxelm.errors import InputError, MxelmError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = options.actions(parser)
    show = action("show", "pictures of every layer's maps of an image, and of the filters that made them")
    show.add_argument("checkpoint", metavar="CHECKPOINT", help="PREFIX of a checkpoint, or a known name")
    show.add_argument("image", metavar="IMAGE", help="an image or a WAV file")
    show.add_argument("--out", required=True, metavar="DIR", help="folder for the pictures")
    _add_layers(show, "every convolution where none is named")
    _add_network(show)
    cache = action("cache", "what layers say of every image of a set, in one file; resumable")
    options.add_data(cache)
    options.add_backbone(cache)
    _add_layers(cache, "the last convolution where none is named")
    cache.add_argument("--content", choices=("descriptors", "maps"), default="descriptors",
                       help="(mu, sigma) of each map, or the maps themselves")
    cache.add_argument("--spectrum", choices=("mel", "chroma"), help="of sounds: what to look at")
    cache.add_argument("--batch", type=options.positive, default=32, help="images a batch")
    cache.add_argument("--shard", metavar="i/n", type=options.shard, help="part i of n of the images, i from 1 to n")
    cache.add_argument("--resume", action="store_true", help="go on from the file in --out if it is there")
    cache.add_argument("--out", required=True, metavar="FILE", help="the cache to write, as the pass goes")
    merge = action("merge", "join caches of disjoint images")
    merge.add_argument("caches", metavar="CACHE", nargs="+", help="caches of one network and its layers")
    merge.add_argument("--out", required=True, metavar="FILE", help="the cache to write")
    fit = action("fit", "thresholds for a cache before a trained network: a hit skips the deeper layers")
    fit.add_argument("cache", metavar="CACHE", help="made of training images by `mxelm maps cache`")
    options.add_data(fit)
    options.add_backbone(fit, cut=None)
    _add_layers(fit, "all of the cache where none is named")
    fit.add_argument("--budget", type=_share, default=0.005, help="share of all images that may get a wrong label")
    fit.add_argument("--rule", choices=("paper", "conformal", "pac"), default="conformal", help="of the thresholds")
    fit.add_argument("--search", choices=("blas", "hnsw"), default="blas", help="hnsw: approximate, needs mxelm[ann]")
    fit.add_argument("--batch", type=options.positive, default=32, help="images a batch")
    fit.add_argument("--even-if-slower", action="store_true", help="accept a cache that costs more than it saves")
    fit.add_argument("--out", required=True, metavar="MODEL", help="the classifier to write")
    predict = action("predict", "classes of images, and which of them the cache has decided")
    predict.add_argument("model", metavar="MODEL", help="a file that `mxelm maps fit` wrote")
    predict.add_argument("images", metavar="IMAGE", nargs="+")
    similar = action("similar", "the cached images that are most like an image")
    similar.add_argument("cache", metavar="CACHE")
    similar.add_argument("image", metavar="IMAGE", help="an image or a WAV file")
    similar.add_argument("-k", type=options.positive, default=9, help="how many")
    similar.add_argument("--layer", metavar="NAME", help="whose maps are compared; else the cache's last")
    similar.add_argument("--checkpoint", metavar="PREFIX", help="where the network lies now, if it has moved")
    similar.add_argument("--out", metavar="PNG", help="a contact sheet; the cached images must be where they were")
    options.add_ctx(similar)


def run(args: argparse.Namespace) -> dict:
    return {"show": _show, "cache": _cache, "merge": _merge, "fit": _fit, "predict": _predict,
            "similar": _similar}[args.action](args)


def _show(args):
    from mxelm import feature_maps
    from mxelm.files import make_folder
    from mxelm.reporting.plots import save
    backbone = options.load_backbone(args)
    image = _image(args.image)
    found = feature_maps.maps_of(backbone, backbone.preprocessing(image)[None], args.layers)
    folder = make_folder(args.out, "choose another with --out")
    written = []
    for number, (layer, maps) in enumerate(found.items(), 1):
        stem = folder / f"{number:02d}-{layer.replace('/', '_')}"
        if maps.ndim == 4:
            save(feature_maps.maps_figure(maps[0], layer), f"{stem}.png")
            written.append(f"{stem}.png")
        weights = feature_maps.filters_of(backbone, layer)
        if weights is not None:
            save(feature_maps.filters_figure(weights, layer), f"{stem}-filters.png")
            written.append(f"{stem}-filters.png")
    return {"image": args.image, "files": written,
            "layers": {layer: {"maps": list(maps.shape[1:]), "dead": int(feature_maps.dead(maps[0]).sum())}
                       for layer, maps in found.items()}}


def _cache(args):
    from mxelm import feature_maps
    from mxelm.files import require_writable
    require_writable(args.out)
    dataset = options.load_data(args)
    backbone = options.load_backbone(args, dataset)
    if args.shard:
        dataset = dataset.shard(*args.shard)
    layers = args.layers or feature_maps.conv_layers(backbone.features)[-1:]
    size = feature_maps.bytes_of(backbone, dataset, layers, content=args.content)
    if not args.json:
        print(f"{len(dataset):,} images at {', '.join(layers)}: {args.content} of {size:,} bytes", flush=True)
    made_from = {"data": options.data_arguments(args), "backbone": options.backbone_arguments(args)}
    n = feature_maps.write(backbone, dataset, layers, args.out, content=args.content, batch=args.batch,
                           skip_bad=args.skip_bad, resume=args.resume, made_from=made_from,
                           progress=options.progress(args))
    return {"cache": args.out, "n_samples": n, "skipped": len(dataset) - n, "layers": list(layers), "bytes": size}


def _merge(args):
    from mxelm import feature_maps
    from mxelm.files import require_writable
    require_writable(args.out)
    return {"cache": args.out, "n_samples": feature_maps.merge(args.caches, args.out)}


def _fit(args):
    from mxelm import feature_maps
    from mxelm.files import require_writable
    require_writable(args.out)
    cache, dataset = feature_maps.Cache.load(args.cache), options.load_data(args)
    backbone = options.load_backbone(args, dataset)
    model = feature_maps.MatchingClassifier(
        backbone, args.layers or list(cache.descriptors), budget=args.budget, rule=args.rule, search=args.search,
        batch=args.batch, must_pay=not args.even_if_slower)
    model.fit(dataset, cache=cache).save(args.out)
    # 0 <= D <= 2: below 0 nothing matches, above 2 everything, and JSON has no infinity
    thresholds = {layer: min(max(float(t), 0.0), 3.0) for layer, t in zip(model.chain_.exits, model.thresholds_)}
    return {"model": args.out, "cached": len(cache.labels), "thresholds": thresholds, **model.gain_.to_json(),
            "speedup": model.gain_.speedup}


def _predict(args):
    from mxelm import feature_maps
    from mxelm.row_files import is_row_file
    if is_row_file(args.model):
        raise InputError(f"{args.model} is a cache: `mxelm maps fit` makes of it what predict reads")
    model = feature_maps.MatchingClassifier.load(args.model)
    images, failed = options.readable(args.images)
    decided = model.decide(images)
    layers = [*model.chain_.exits[:-1], None]  # -1 is the network itself
    return {"failed": failed, "exit_code": 1 if failed else 0, "predictions": {
        path: {"class": str(model.classes_[label]), "matched_at": layers[m],
               "like": model.cache_.ids[n] if n >= 0 else None, "distance": float(D) if n >= 0 else None}
        for path, label, m, n, D in zip(images.ids, decided.labels, decided.layer, decided.neighbour,
                                        decided.distance)}}


def _similar(args):
    from mxelm import data, feature_maps
    from mxelm.files import require_writable
    if args.out:
        require_writable(args.out)
    cache = feature_maps.Cache.load(args.cache)
    origin = cache.identity["made_from"]
    if not origin:
        raise InputError(f"{args.cache} does not say which checkpoint and images made it: `mxelm maps cache` does")
    sounds, sound = (name.lower().endswith(".wav") for name in (cache.ids[0], args.image))
    if sound != sounds:
        raise InputError(f"{args.image} is {'a recording' if sound else 'no recording'}, and {args.cache} holds "
                         f"{'recordings' if sounds else 'pictures'}")
    image = _image(args.image, origin["data"].get("spectrum", "mel"))
    found = feature_maps.similar(cache, _backbone_again(origin["backbone"], args), image, k=args.k, layer=args.layer)
    if args.out:
        try:
            images = data.load(**origin["data"])
        except MxelmError as error:
            raise InputError(f"the images of {args.cache} are not where it was made from ({error}): call from the "
                             "folder where they are, or leave out --out") from None
        _draw(args.out, image, found, images)
    return {"image": args.image, "similar": [one._asdict() for one in found], "picture": args.out}


def _backbone_again(origin, args):
    """The network that made a cache, from where it lies now."""
    from mxelm import backbones
    from mxelm.preprocessing import Preprocessing
    given = {**origin, "ctx": args.ctx, **({"prefix": args.checkpoint} if args.checkpoint else {})}
    preprocessing = given.pop("preprocessing")
    return backbones.load(**given, preprocessing=preprocessing and Preprocessing.from_json(preprocessing))


def _draw(path, image, found, images):
    """A contact sheet of an image and the cached images that are like it."""
    from mxelm import feature_maps
    from mxelm.reporting.plots import save
    place = {name: i for i, name in enumerate(images.ids)}
    lost = [one.id for one in found if one.id not in place]
    if lost:
        raise InputError(f"{lost[0]} is not among the images any more: leave out --out, or put it back")
    titles = ["query", *(f"{one.label}\nD = {one.distance:.2g}" for one in found)]
    save(feature_maps.contact_sheet([image, *(images.image(place[one.id]) for one in found)], titles), path)


def _image(path, spectrum="mel"):
    """An image file, or the spectrum of a WAV file, as uint8."""
    from mxelm.data.decode import read_bytes, read_image
    if not path.lower().endswith(".wav"):
        return read_image(path)
    from mxelm.data import sounds
    return sounds.picture(sounds.decode(read_bytes(path), path), spectrum)


def _add_layers(parser, default):
    parser.add_argument("--layers", nargs="+", metavar="NAME", help=f"names of layers or outputs; {default}")


def _add_network(parser):
    parser.add_argument("--epoch", type=int, help="the checkpoint's number")
    parser.add_argument("--cut", default="flatten_output", help="the output up to which layers are looked at")
    parser.add_argument("--preprocessing", metavar="JSON", help="the network's preprocessing, if not in PREFIX.json")
    parser.add_argument("--pooling", choices=("valid", "full"), help="of a network of before October 2016")
    options.add_ctx(parser)


def _share(text):
    value = options.above_zero(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def show(result: dict) -> None:
    """Print what an action has done, a few lines."""
    for path in result.get("files", []):
        print(f"wrote {path}")
    if "n_samples" in result:
        print(f"{result['cache']}: {result['n_samples']:,} images")
        if result.get("skipped"):
            print(f"left out {result['skipped']} images that cannot be read")
    if "thresholds" in result:
        for layer, t in result["thresholds"].items():
            print(f"  {layer}: a match where D < {t:.3g}")
        print(f"{result['model']}: {result['cached']:,} cached images, {result['hit_rate']:.1%} hits, "
              f"{1e3 * result['skipped']:.4f} ms skipped a hit, {1e3 * result['search']:.4f} ms of search an image, "
              f"{result['speedup']:.2f}x as fast as the network alone")
    options.show_failed(result)
    for path, one in result.get("predictions", {}).items():
        why = f"as {one['like']} at {one['matched_at']}, D = {one['distance']:.2g}" if one["like"] else "by the network"
        print(f"{path}: {one['class']} ({why})")
    for one in result.get("similar", []):
        print(f"{one['distance']:9.3g}  {one['label']:20s}  {one['id']}")
    if result.get("picture"):
        print(f"wrote {result['picture']}")
