"""`mxelm fetch`: known weights, or where to put them by hand."""


def add_arguments(parser):
    parser.add_argument("name", metavar="NAME", nargs="?", help="efficientnet_lite0, Inception21k, ...")
    parser.add_argument("--folder", metavar="DIR", help="where to put them (default: the cache, MXELM_CACHE)")


def run(args):
    from mxelm.backbones import manifest
    if args.name is None:
        return {"known": manifest.known()}
    prefix = manifest.fetch(args.name, args.folder, progress=not args.json)
    entry = manifest.known()[args.name]
    return {"prefix": prefix, "licence": entry["licence"], "source": entry["source"]}


def show(result):
    if "known" in result:
        for name, entry in result["known"].items():
            print(f"{name:20} {entry['summary']}; licence: {entry['licence']}")
        return
    print(f"{result['prefix']}: fetched and verified (licence: {result['licence']}; from {result['source']})")
