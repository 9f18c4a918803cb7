"""mxelm distribute: accumulate on several workers at once, here or on several machines."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mxelm.cli import options
from mxelm.errors import FileError, InputError

if TYPE_CHECKING:
    from mxelm.fused.projection import Projection

# The options that a work folder belongs to: with others, its shards would be of another run.
_BELONGING = ("images", "data", "root", "split", "kind", "skip_bad", "checkpoint", "epoch", "cut", "preprocessing",
              "pooling", "neurons", "spread", "seed", "like", "method", "interface", "batch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser)
    options.add_backbone(parser)
    options.add_elm(parser)
    parser.add_argument("--workers", type=options.positive, default=2, help="processes that stream a shard each")
    parser.add_argument("--servers", type=options.positive, default=1, help="processes that add up the sums")
    parser.add_argument("--hosts", type=_names, default=[], metavar="HOST,...",
                        help="machines that the workers but the first take turns on; reached by ssh")
    parser.add_argument("--address", default="127.0.0.1", help="of this machine, as the hosts reach it")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after so many seconds; else no limit")
    parser.add_argument("--work", required=True, metavar="DIR", help="where shards are kept until all are there")
    parser.add_argument("--out", required=True, metavar="STATE", help="the state to write")


def run(args: argparse.Namespace) -> dict:
    from mxelm import files
    from mxelm.fused.job import usual_backbone
    options.require_out(args.out)
    if args.hosts and args.address.startswith("127."):
        raise InputError(f"hosts cannot reach {args.address}: give this machine's --address in their network")
    files.make_folder(args.work)
    files.require_writable(Path(args.work) / "job.json")
    dataset = options.load_data(args)
    if len(dataset) < args.workers:  # found out here, not by starting them
        raise InputError(f"{dataset.name} has {len(dataset)} images: too few for {args.workers} workers")
    args.checkpoint = args.checkpoint or usual_backbone(dataset)
    projection = _projection(args, dataset)
    from mxelm.fused import distributed
    done = distributed.launch(job_of(args, projection), args.work, args.workers, servers=args.servers,
                              hosts=args.hosts, address=args.address, timeout=args.timeout)
    return {"state": args.out, "n_samples": sum(part["n_samples"] for part in done),
            "shards": [part["n_samples"] for part in done], "servers": args.servers, "work": args.work,
            "skipped": [entry for part in done for entry in part["skipped"]]}


def job_of(args: argparse.Namespace, projection: Projection) -> dict:
    """What every worker is told, JSON-able."""
    return {"data": options.data_arguments(args), "backbone": options.backbone_arguments(args),
            "projection": projection, "out": args.out,
            "options": {name: getattr(args, name) for name in ("method", "batch", "skip_bad", "interface")}}


def show(result: dict) -> None:
    options.show_skipped(result)
    print(f"{result['state']}: {result['n_samples']} images, from shards of {', '.join(map(str, result['shards']))}")
    print(f"{result['work']} still holds the shards; remove it when it is not needed any more")


def _projection(args, dataset):
    """The W that all workers take, as JSON; made once for a work folder, since their shards belong to it."""
    from mxelm.files import read_json, write_json
    from mxelm.schemas import check
    path = Path(args.work) / "job.json"
    asked = {name: getattr(args, name) for name in _BELONGING}
    if path.exists():
        job = read_json(path)
        check("job", job, path)
        for name, value in asked.items():
            if job["asked"].get(name) != value:
                raise FileError(f"{args.work} holds another job, with {name} {job['asked'].get(name)} and not {value}: "
                                "choose another --work folder")
        return job["projection"]
    projection = options.projection(args, options.load_backbone(args, dataset), dataset).to_json()
    write_json(path, {"asked": asked, "projection": projection})
    return projection


def _names(text):
    names = text.split(",")
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as node1,node2")
    return names
