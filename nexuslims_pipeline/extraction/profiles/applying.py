"""Applying profiles to a dataset, after its file was read and before its metadata are checked."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from functools import partial
from typing import Any

from nexuslims_pipeline.extraction.profiles.model import Profile, Rule, When
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.signals import Signal, Source

NATIVE = "native/"
DRAWN = frozenset({"pixels", "layers"})
ANYTHING = DRAWN | {"text", "annotations"}
"""What a step may make of another kind than it was: only the preview depends on it."""
TEXT_SEARCHED = 4000
"""Characters of a value in which a condition looks."""


def apply_profiles(profiles: Iterable[Profile], signal: Signal, source: Source, reader: str) -> list[str]:
    """Let profiles change a signal.

    A step that fails is undone and becomes a warning of the dataset.

    Returns
    -------
    list of str
        Names of the profiles that did something.
    """
    applied = []
    for profile in profiles:
        did = [_guarded(parser, signal, profile, getattr(parser, "__name__", "parser")) for parser in profile.parsers]
        for number, rule in enumerate(profile.rules, 1):
            if meets(rule.when, signal, source, reader):
                did.append(_guarded(partial(follow, rule), signal, profile, f"rule {number}"))
        if any(did):
            applied.append(profile.name)
    return applied


def meets(when: When, signal: Signal, source: Source, reader: str) -> bool:
    """Whether a dataset meets all conditions."""
    if when.extension and source.path.suffix.lower() not in when.extension:
        return False
    if when.reader and reader not in when.reader:
        return False
    if when.dataset_type and signal.dataset_type not in when.dataset_type:
        return False
    if when.file_name and not when.file_name.search(source.path.name):
        return False
    return all(pattern.search(value_in_words(signal, place)) for place, pattern in when.values.items())


def follow(rule: Rule, signal: Signal) -> None:
    """Say of a dataset what a rule wants said."""
    signal.dataset_type = rule.dataset_type or signal.dataset_type
    signal.data_type = rule.data_type or signal.data_type
    for given, held in ((rule.fields, signal.fields), (rule.extensions, signal.extensions)):
        for name, value in given.items():
            if value is None:
                held.pop(name, None)
            else:
                held[name] = value
    signal.warnings.update(rule.warnings)


def value_in_words(signal: Signal, place: str) -> str:
    """Value at a place of a signal as text; empty when there is none."""
    if place.startswith(NATIVE):
        value = _below(signal.native, place.removeprefix(NATIVE))
    elif place in FIELDS:
        value = signal.fields.get(place)
    else:
        by_display_name = {FIELDS[name].display_name: held for name, held in signal.fields.items() if name in FIELDS}
        value = by_display_name.get(place, _below(signal.extensions, place))
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "" if value is None else str(value)[:TEXT_SEARCHED]


def _below(tree: Any, path: str) -> Any:
    """Value at a path whose parts are joined by slashes; a name may have slashes of its own."""
    if not isinstance(tree, Mapping):
        return None
    if path in tree:
        return tree[path]
    parts = path.split("/")
    for length in range(1, len(parts)):
        name, rest = "/".join(parts[:length]), "/".join(parts[length:])
        if name in tree and (found := _below(tree[name], rest)) is not None:
            return found
    return None


def _guarded(step: Callable[[Signal], None], signal: Signal, profile: Profile, name: str) -> bool:
    """Whether a step changed the signal; one that fails leaves a warning and nothing else."""
    before = {each.name: _copied(getattr(signal, each.name)) for each in fields(signal)}
    try:
        step(signal)
        for each, value in before.items():
            _ensure_like(value, getattr(signal, each), each)
    except (Exception, SystemExit) as fault:  # a profile is a site's own code
        for each, value in before.items():
            setattr(signal, each, value)
        signal.warnings[f"Profile {profile.name}"] = f"{name} failed: {type(fault).__name__}: {fault}"[:300]
        return True
    return any(_differ(getattr(signal, each), value) for each, value in before.items() if each not in DRAWN)


def _ensure_like(before: Any, after: Any, name: str) -> None:
    kind = (datetime, type(None)) if name == "acquired" else type(before)
    if name not in ANYTHING and not isinstance(after, kind):
        msg = f"it makes '{name}' a {type(after).__name__}"
        raise TypeError(msg)


def _differ(one: Any, other: Any) -> bool:
    try:
        return bool(one != other)
    except ValueError:  # arrays are compared number by number
        return True


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return list(value) if isinstance(value, list) else value
