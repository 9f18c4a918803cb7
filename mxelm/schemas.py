"""What our JSON files hold, checked in one place before anything in them is used."""
from __future__ import annotations

import os
from typing import Any

from mxelm.errors import FileError


def check(kind: str, content: Any, path: str | os.PathLike) -> None:
    """Raise FileError, naming `path` and the place in it, unless `content` has the form of `kind` (a key of SCHEMAS).

    Content of a kind that is not listed passes.
    """
    if kind not in SCHEMAS:
        return
    import jsonschema  # takes its time, and half of all commands read no such file
    kinds = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("names", _are_names)
    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=kinds)(
        {**SCHEMAS[kind], "$defs": _SHARED})
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(content))
        if error is None:
            return
        place, message = ".".join(map(str, error.absolute_path)), error.message
    except (RecursionError, OverflowError):  # from the text of what is nested without end, or of endless numbers
        place, message = "", "its values are beyond reason"
    message = message if len(message) < 200 else f"{message[:90]} ... {message[-90:]}"
    what = SCHEMAS[kind].get("title", "a file that mxelm wrote")
    raise FileError(f"{path} is damaged or not {what}: {place and place + ': '}{message}")


def _are_names(_, content):
    """Whether it is a list of texts; at once, since there may be 100,000."""
    return isinstance(content, list) and all(isinstance(name, str) for name in content)


def _object(required=(), **properties):
    return {"type": "object", "required": list(required), "properties": properties}


def _all(**properties):
    return _object(properties, **properties)


def _only(**properties):
    return {**_all(**properties), "additionalProperties": False}


def _list(items, **more):
    return {"type": "array", "items": items, **more}


def _or_null(schema):
    return {"anyOf": [{"type": "null"}, schema]}


_TEXT, _NUMBER, _DICT, _NULL = ({"type": name} for name in ("string", "number", "object", "null"))
_WHOLE = {"type": "integer", "minimum": 0}
_COUNT = {"type": "integer", "minimum": 1}
_NAMES = {"type": "names"}  # a list of texts
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_KIND = {"enum": ["classes", "multilabel", "regression"]}
_ENTRY = _list(_WHOLE, minItems=2)  # a graph's edge: node, output, version
_ATTRIBUTES = {"type": ["object", "null"], "additionalProperties": _TEXT}
_FILE = _only(bytes=_WHOLE, sha256=_SHA256)
_SHARED = {"entry": _ENTRY, "attributes": _ATTRIBUTES}  # as references they are told apart only once

# Of a checkpoint's three files by their roles; before December 2026 of two of them by their names
_BY_ROLE = _only(symbol=_FILE, params=_only(epoch=_WHOLE, bytes=_WHOLE, sha256=_SHA256), sidecar=_only(sha256=_SHA256))
_BY_NAME = {"type": "object", "additionalProperties": False, "minProperties": 1, "patternProperties": {
    r"(-symbol\.json|-\d{4,}\.params)$": {**_object(bytes=_WHOLE, sha256=_SHA256), "additionalProperties": False}}}

_NODE = _object(["op", "name", "inputs"], op=_TEXT, name=_TEXT, inputs=_list({"$ref": "#/$defs/entry"}),
                subgraphs={"type": "array", "maxItems": 0},
                **dict.fromkeys(("attr", "attrs", "param"), {"$ref": "#/$defs/attributes"}))
_TRAINED = _object(["history"], history=_list(_all(epoch=_COUNT, loss=_NUMBER)), num_update=_WHOLE,
                   update_counts={"type": "object", "propertyNames": {"pattern": r"^\d+$"},
                                  "additionalProperties": _WHOLE}, optimizer_numbers=_DICT)

_MAY_SAY = {"dependentSchemas": {  # states of before December 2026 do not
    "intercept": _object(intercept={"type": "boolean"}),
    "place": _object(place=_or_null(_object(["prefix", "epoch"], prefix=_TEXT, epoch=_or_null(_WHOLE))))}}

SCHEMAS = {
    "container": _object(["kind", "container"], kind=_TEXT, container=_COUNT, meta=_DICT),
    # PREFIX-symbol.json
    "symbol": {
        "title": "an MXNet symbol",
        **_object(["nodes", "heads"], nodes=_list(_NODE, minItems=1), attrs=_DICT,
                  heads=_list({"$ref": "#/$defs/entry"}, minItems=1), arg_nodes=_list(_WHOLE))},
    # PREFIX.json; whoever keeps more in it may, but for a `files` under a damaged name
    "checkpoint": {
        "title": "a checkpoint's JSON file",
        **_object(files={"if": {"required": ["sidecar"]}, "then": _BY_ROLE, "else": _BY_NAME},
                  classes=_or_null(_NAMES), classes_file={"type": "string", "pattern": r"^[^/\\\x00]+$"},
                  input_shape=_list({**_COUNT, "maximum": 1 << 13}, minItems=3, maxItems=3),
                  elm=_object(["kind"], kind=_KIND, temperature=_or_null({"type": "number", "exclusiveMinimum": 0}))),
        "additionalProperties": {"not": _object(["symbol", "params", "sidecar"])}},
    "elm-state": _all(
        n_samples=_WHOLE, yty=_NUMBER, progress=_or_null(_all(done=_WHOLE, of=_WHOLE)),
        origin=_or_null(_all(
            backbone=_all(symbol=_TEXT, params=_TEXT), cut=_or_null(_TEXT), preprocessing=_DICT, kind=_KIND,
            projection=_all(n_neurons=_COUNT, n_features=_COUNT, seed=_WHOLE, scale=_NUMBER, sha256=_SHA256),
            classes=_NAMES,
            class_weight=_or_null({"type": "object", "additionalProperties": _NUMBER}), method=_TEXT) | _MAY_SAY)),
    # DIR/cascade.json; before December 2026 without a hash of its own
    "cascade": {
        "title": "a cascade that mxelm wrote",
        **_object(["kind", "version", "network", "confidence", "classes", "segments"], kind={"const": "cascade"},
                  version=_COUNT, network=_TEXT, confidence=_TEXT, classes=_NAMES, sha256=_SHA256,
                  segments=_list(_all(checkpoint={"type": "string", "pattern": r"^[^/\\\x00]+$"}, exit=_TEXT,
                                      inputs=_NAMES, outputs=_NAMES, threshold=_or_null(_NUMBER),
                                      probabilities={"type": "boolean"},
                                      sha256=_only(**{"symbol.json": _SHA256, "0000.params": _SHA256})), minItems=1))},
    # The header of a file of rows
    "rows": _all(kind=_TEXT, identity=_DICT, columns={"type": "object", "additionalProperties": _list(
        {}, minItems=2, maxItems=2, prefixItems=[{"type": "string", "pattern": r"^[<>|][fiuSb]\d{1,5}$"},
                                                 _list({**_WHOLE, "maximum": 1 << 31})])}),
    "map-cache": _object(["network", "preprocessing", "content", "classes"], network=_DICT, preprocessing=_DICT,
                            content={"enum": ["descriptors", "maps"]}, classes=_NAMES),
    # WORK/job.json of `mxelm distribute`
    "job": _all(asked=_DICT, projection=_all(n_neurons=_COUNT, n_features=_COUNT, seed=_WHOLE, scale=_NUMBER,
                                             sha256=_SHA256)),
    "training-checkpoint": {**_TRAINED, "dependentRequired": {"num_update": ["update_counts"],
                                                              "update_counts": ["num_update"]}},
    "knn-evolution": _all(
        identity=_DICT, stage=_WHOLE, generation=_WHOLE, tau=_or_null(_NUMBER), evaluations=_WHOLE, seconds=_NUMBER,
        rounds=_list(_DICT), best=_or_null(_NUMBER), logbook=_list(_DICT),
        searches=_list(_all(filter=_or_null(_WHOLE), started_at=_or_null(_NUMBER), strategy=_DICT, best=_NUMBER))),
    "matching-classifier": _all(
        name=_TEXT, symbol=_TEXT, layers=_NAMES, preprocessing=_DICT, search=_TEXT, batch=_COUNT, budget=_NUMBER,
        rule=_TEXT, cache=_object(["classes"], classes=_NAMES),
        gain=_all(hit_rate=_NUMBER, skipped=_NUMBER, search=_NUMBER, network=_NUMBER, batch=_COUNT)),
    "sliced-classifier": _all(name=_TEXT, symbol=_TEXT, k=_COUNT, preprocessing=_DICT, weights=_TEXT, metric=_TEXT),
}
