"""Write the tables of the documentation from the code that they describe.

Run as ``python docs/generate.py`` after a change of the settings, the fields or the readers; a test says when.
"""

import ast
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from pydantic import AnyHttpUrl, BaseModel, SecretStr  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402
from pydantic_core import PydanticUndefined  # noqa: E402

from nexuslims_pipeline.configuration import SERVER_VARIABLES, Settings  # noqa: E402
from nexuslims_pipeline.extraction.profiles.model import Profile, Rule, When  # noqa: E402
from nexuslims_pipeline.extraction.registry import extractors  # noqa: E402
from nexuslims_pipeline.instruments import Instrument, NemoTool  # noqa: E402
from nexuslims_pipeline.inventory.companions import RULES  # noqa: E402
from nexuslims_pipeline.metadata.fields import EVERY, FIELDS  # noqa: E402
from nexuslims_pipeline.metadata.models import MODELS  # noqa: E402
from nexuslims_pipeline.sessions.server_config import NemoServerConfig  # noqa: E402
from resources.destinations.base import Destination, Remote  # noqa: E402
from resources.destinations.known import OWN  # noqa: E402
from resources.ledger import Entry, Failure  # noqa: E402

SERVER_FIELDS = {
    "ADDRESS": ("address", "required"),
    "TOKEN": ("token", "required, but for a folder"),
    "TZ": ("time_zone", "the zone of this machine"),
    "NAME": ("name", "`nemo` for 1, `nemo2` for 2 …"),
    "STRFTIME_FMT": ("strftime_format", "ISO 8601"),
    "STRPTIME_FMT": ("strptime_format", "ISO 8601"),
}
"""Field of `NemoServerConfig` behind each variable, and its default in words."""
COMPUTED = {"extraction_workers": "number of cores", "nemo_servers": "none"}
"""Defaults that are computed, in words."""
PLAIN_FIELDS = {
    "key": "Key of the session.",
    "failure": "Why the last try came to nothing; null when it did not.",
    "reason": "In words, with the server's own reason for a refusal.",
    "at": "When it was.",
    "run_id": "Dagster's run.",
}
"""Entries of the ledger whose names say what they are."""
TYPES = {
    AnyHttpUrl: "address",
    Path: "path",
    SecretStr: "secret",
    bool: "`true` or `false`",
    float: "number",
    int: "whole number",
    str: "text",
}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
BASES = {
    "stem": "name without extension",
    "name": "whole name",
    "series": "name without extension and `_<number>`",
    "dashed": "name with `-` for the last `.`",
    "prefix": "name before its last `_`",
    "first": "name without `_000` and extension",
    "master": "name without `_master` and extension",
    "exposure": "name without extension, `_fractions` and `_EER`",
    "acquisition": "date and number at the start of the name, with or without a suffix",
    "folder": "any name like it in the folder",
}


def settings_table() -> str:
    """Every variable of the site but those of the NEMO servers."""
    words = attribute_docstrings(Settings)
    return table(
        ("Variable", "Type", "Default", "Meaning"),
        (
            (f"`NX_{name.upper()}`", _kind(field), _default(name, field), _prose(words[name], Settings))
            for name, field in Settings.model_fields.items()
            if name != "nemo_servers"
        ),
    )


def servers_table() -> str:
    """Variables of one NEMO server."""
    words = attribute_docstrings(NemoServerConfig)
    return table(
        ("Variable", "Default", "Meaning"),
        (
            (f"`NX_NEMO_{what}_<n>`", default, _prose(words[field]))
            for what in SERVER_VARIABLES
            for field, default in [SERVER_FIELDS[what]]
        ),
    )


def instruments_table() -> str:
    """Entries of ``instruments.yaml``."""

    def rows() -> Iterator[tuple[str, ...]]:
        for model, prefix in ((Instrument, ""), (NemoTool, "nemo.")):
            words = attribute_docstrings(model)
            for name, field in model.model_fields.items():
                if field.annotation is not NemoTool:
                    meaning = words.get(name, "Where it stands, for people.")
                    yield f"`{prefix}{name}`", _kind(field), _default(name, field), _prose(meaning)

    return table(("Entry", "Type", "Default", "Meaning"), rows())


def fields_table() -> str:
    """Named fields of a dataset."""
    return table(
        ("Field", "Display name", "Meaning", "Unit or kind", "EM Glossary", "QUDT", "Dataset types"),
        (
            (
                f"`{name}`",
                field.display_name,
                field.meaning + (" *Personal.*" if field.is_personal else ""),
                field.unit or field.kind,
                f"[EMG_{field.term}]({field.term_iri})" if field.term else "",
                f"[{field.qudt}]({field.qudt_iri})" if field.qudt else "",
                "all" if field.types == EVERY else ", ".join(sorted(field.types)),
            )
            for name, field in FIELDS.items()
        ),
    )


def types_table() -> str:
    """Types of datasets."""
    return table(
        ("Type", "What it is", "Named fields"),
        (
            (
                f"`{name}`",
                (inspect.getdoc(model) or "").rstrip("."),
                str(sum(name in field.types for field in FIELDS.values())),
            )
            for name, model in MODELS.items()
        ),
    )


def profiles_table() -> str:
    """Entries of a profile."""

    def rows() -> Iterator[tuple[str, ...]]:
        for model, prefix in ((Profile, ""), (Rule, "rules."), (When, "rules.when.")):
            for name, words in attribute_docstrings(model).items():
                yield f"`{prefix}{name}`", _prose(words)

    return table(("Entry", "Meaning"), rows())


def readers_table() -> str:
    """Readers in the order in which they are asked."""
    return table(
        ("Reader", "Version", "What it reads", "Extensions"),
        (
            (
                f"`{reader.name}`",
                reader.version,
                (inspect.getdoc(inspect.getmodule(reader)) or "").partition("\n")[0].rstrip(".").replace("``", "`"),
                " ".join(f"`{extension}`" if extension else "(none)" for extension in sorted(reader.extensions)),
            )
            for reader in extractors()
        ),
    )


def destinations_table() -> str:
    """The project's own destinations, in the order in which ``first_success`` tries them."""
    return table(
        ("Destination", "Asset", "A copy is called", "Shows links of", "Sessions at a time"),
        (
            (
                f"`{kind.name}`",
                f"`{kind.asset_name}`",
                kind.label,
                ", ".join(f"`{name}`" for name in kind.shows_links_of) or "–",
                str(kind.workers),
            )
            for kind in OWN
        ),
    )


def ledger_table() -> str:
    """Entries of a ledger file."""

    def rows() -> Iterator[tuple[str, ...]]:
        for model, prefix in ((Entry, ""), (Remote, "remote."), (Failure, "failure.")):
            words = attribute_docstrings(model)
            for name in model.model_fields:
                yield f"`{prefix}{name}`", _prose(words.get(name, PLAIN_FIELDS.get(name, "")))

    return table(("Entry", "Meaning"), rows())


def contract_table() -> str:
    """What a destination has and answers."""
    words = attribute_docstrings(Destination)
    attributes = (
        (f"`{name}`", _prose(text.partition(", e.g.")[0]).removesuffix(".") + ".") for name, text in words.items()
    )
    methods = (
        (f"`{name}{_arguments(method)}`", _prose((inspect.getdoc(method) or "").partition("\n\n")[0]))
        for name, method in vars(Destination).items()
        if not name.startswith("_") and name not in words
    )
    return table(("Attribute or method", "What it says or does"), [*attributes, *methods])


def _arguments(method: Any) -> str:
    function = getattr(method, "__func__", method)
    names = list(inspect.signature(function).parameters)[1:]
    return f"({', '.join(names)})"


def companions_table() -> str:
    """Which files describe which."""
    return table(
        ("File", "Companion: same folder, any case", "Extension"),
        (
            (
                " ".join(f"`{e}`" for e in sorted(rule.extensions)),
                BASES[rule.base],
                " ".join(f"`{e}`" for e in rule.companions),
            )
            for rule in RULES
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "servers": servers_table,
    "instruments": instruments_table,
    "types": types_table,
    "fields": fields_table,
    "profiles": profiles_table,
    "readers": readers_table,
    "companions": companions_table,
    "destinations": destinations_table,
    "ledger": ledger_table,
    "contract": contract_table,
}
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where a table stands in a page, and its name."""


def filled(page: str) -> str:
    """`page` with its tables as the code has them now."""
    return PLACE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], page)


def attribute_docstrings(model: type) -> dict[str, str]:
    """The text below each attribute of a model."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - what getsource of a class gives
    found = {}
    for attribute, text in zip(tree.body, tree.body[1:], strict=False):
        match attribute, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as words)):
                found[name] = inspect.cleandoc(words)
    return found


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = tuple(header)
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _kind(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in {Union, types.UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        return "list: JSON, or parted by commas"
    if get_origin(kind) is tuple:
        return "two numbers"
    bounds = (
        f"{sign} {bound:g}"
        for each in field.metadata
        for name, sign in BOUNDS.items()
        if (bound := getattr(each, name, None)) is not None
    )
    return " ".join([TYPES[kind], ", ".join(bounds)]).strip()


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return COMPUTED[name]
    match field.default:
        case None | "":
            return "none"
        case bool() as value:
            return f"`{str(value).lower()}`"
        case float() as value:
            return f"`{value:g}`"
        case list() as values:
            return f"`{','.join(values)}`"
        case value:
            return f"`{value}`"


def _prose(text: str, model: type[BaseModel] | None = None) -> str:
    """A docstring as Markdown in one line; names of settings become those of their variables."""
    names = model.model_fields if model else {}
    line = " ".join(text.split())
    line = re.sub(r"(?<!`)`(\w+)`(?!`)", lambda m: f"`NX_{m[1].upper()}`" if m[1] in names else m[0], line)
    return line.replace("``", "`")


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
