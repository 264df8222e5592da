"""JSON Schemas of a run's JSON files, as far as the page reads them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

Schema = Mapping[str, Any]

WORDS = {
    **{"integer": "a whole number", "number": "a number", "string": "a text"},
    **{"object": "a dictionary", "array": "a list"},
}


def _keys(**schemas: Schema) -> Schema:
    return {"type": "object", "properties": schemas}


def _any_key(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


# The page shows null as unknown.
INTEGER, NUMBER, TEXT = ({"type": [name, "null"]} for name in ("integer", "number", "string"))
NAME = {"type": ["number", "string", "null"]}
TEXTS = _list({"type": "string"})
BOUNDS: Schema = {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
FIGURES: dict[str, Schema] = {"auc": NUMBER, "auc_ci95": BOUNDS, "ap": NUMBER, "ap_ci95": BOUNDS}
POINT = _keys(
    **dict.fromkeys(("specificity_wanted", "threshold", "sensitivity", "specificity"), NUMBER),
    **dict.fromkeys(("sensitivity_ci95", "specificity_ci95"), BOUNDS),
    n_valid_normal=INTEGER,
    warning=TEXT,
)
RATE = _keys(false_positives=NUMBER, hit_rate=NUMBER, hit_rate_ci95=BOUNDS)
MODEL = _keys(
    **FIGURES,
    **{"iteration": INTEGER, "aucp": NUMBER, "aucp_se": NUMBER, "no_result": TEXT},
    operating_points=_list(POINT),
    groups=_any_key(_any_key(_keys(**FIGURES))),
    localization=_keys(hit_rates=_list(RATE), truth=TEXT, threshold=NUMBER),
)
METRICS = _keys(
    **dict.fromkeys(("aucp", "last", "oracle_test"), MODEL),
    **dict.fromkeys(("n_normal", "n_abnormal"), INTEGER),
    anomaly_map=_keys(passes=INTEGER, smoothing=TEXT, sigma=NUMBER, top_of_scale=NUMBER),
    baselines=_any_key(_keys(**FIGURES)),
    versions=_keys(),
    warnings=TEXTS,
)
SPLITS = _any_key(_list(_keys(image=TEXT, label=INTEGER, patient=NAME)))
FINDING = _keys(count=INTEGER, examples=_list(_keys(images=TEXTS)))
AUDIT = _keys(
    **dict.fromkeys(("exact_duplicates", "near_duplicates", "shared_patients", "normal_and_unlabeled"), FINDING),
    splits=_any_key(_keys(images=INTEGER, abnormal=INTEGER, patients=INTEGER)),
    patients_by=_any_key(INTEGER),
    file_kinds=_list(_keys(of=TEXT, property=TEXT, auc={"type": "number"})),
    warnings=TEXTS,
    cannot_know=TEXTS,
)
CONFIG = _keys()
GALLERY = _list(
    _keys(
        **dict.fromkeys(("file", "image", "kind", "warning", "lesions"), TEXT),
        **{"label": INTEGER, "rank": INTEGER, "score": NUMBER, "p_value": NUMBER},
    )
)


def models_of(names: Iterable[str]) -> Schema:
    """The schema of a ``metrics.json`` with these models."""
    return _keys(**dict.fromkeys(names, MODEL))


def _is_number(_: object, value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and _is_number(_, value)  # 3.0 is one to JSON Schema


TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many({"number": _is_number, "integer": _is_integer})
Validator = extend(Draft202012Validator, type_checker=TYPES)


def misfit(content: Any, schema: Schema) -> str | None:
    """The first misfit, for example ``test[0] is 3, not a dictionary``, or None."""
    error = next(Validator(schema).iter_errors(content), None)
    if error is None:
        return None
    keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in error.absolute_path)
    place = "".join(keys).removeprefix(".") or "all of it"
    if error.validator != "type":
        return f"{place} is a list of {len(error.instance)}, not a pair"
    asked = error.schema["type"]
    kinds = [WORDS[name] for name in ([asked] if isinstance(asked, str) else asked) if name in WORDS]
    return f"{place} is {_shown(error.instance)}, not {' or '.join(kinds)}"


def _shown(content: Any) -> str:
    if isinstance(content, (dict, list)):
        return WORDS["object" if isinstance(content, dict) else "array"]
    return json.dumps(content)[:60]
