"""The command line: build, publish, withdraw, restore, cdcs-template, extract, doctor, demo.

Exit codes: 0 nothing failed; 1 a session, file or check failed; 2 the configuration or the call is wrong.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import load_dotenv

from nexuslims_pipeline import __version__
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.sessions.keys import parse_key

if TYPE_CHECKING:
    from nexuslims_pipeline.publishing import Delivery, Selection

FAILED, MISCONFIGURED = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be anything but text
    options = _parser().parse_args(arguments)
    load_dotenv(Path(".env"))
    try:
        code: int = options.command(options)
    except ConfigurationError as mistake:
        print(mistake, file=sys.stderr)
        return MISCONFIGURED
    except KeyboardInterrupt:
        print("Interrupted; what was finished is kept.", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nexuslims-pipeline", description="Microscopy sessions to records.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="harvest NEMO and build what is new or changed")
    build.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")
    build.add_argument("--no-publish", action="store_true", help="send nothing to the destinations")
    _add_selection(build)
    build.set_defaults(command=_build)

    publish = commands.add_parser("publish", help="send to the destinations what they do not hold yet")
    publish.add_argument("--destination", action="append", default=[], metavar="NAME", help="only there; repeatable")
    publish.add_argument("--again", action="store_true", help="send also what is there already")
    publish.add_argument("--dry-run", action="store_true", help="say what would be sent; ask nobody, write nothing")
    _add_selection(publish)
    publish.set_defaults(command=_publish)

    withdraw = commands.add_parser(
        "withdraw", help="remove all that was made of a session, here and at every destination"
    )
    withdraw.add_argument("key", type=_key, metavar="KEY")
    withdraw.add_argument("--why", default="asked for by the facility", metavar="TEXT", help="kept in the tombstone")
    withdraw.set_defaults(command=_withdraw)

    restore = commands.add_parser("restore", help="let a session that was withdrawn by hand be built again")
    restore.add_argument("key", type=_key, metavar="KEY")
    restore.set_defaults(command=_restore)

    template = commands.add_parser(
        "cdcs-template", help="give CDCS the template of records and our stylesheets, or renew them"
    )
    template.add_argument("--dry-run", action="store_true", help="say what would be done; change nothing")
    template.set_defaults(command=_cdcs_template)

    extract = commands.add_parser("extract", help="show the datasets of files; needs no configuration")
    extract.add_argument("files", nargs="+", type=Path, metavar="FILE")
    extract.add_argument("--json", action="store_true", help="everything, in the sidecar's form")
    extract.add_argument("--no-preview", action="store_true", help="draw nothing")
    extract.add_argument("--preview-folder", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    extract.set_defaults(command=_extract)

    doctor = commands.add_parser("doctor", help="check every path, server, token and tool")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(command=_doctor)

    demo = commands.add_parser("demo", help="write a small facility and build its sessions")
    demo.add_argument("--folder", type=Path, default=Path(".demo"))
    demo.set_defaults(command=_demo)
    return parser


def _add_selection(command: argparse.ArgumentParser) -> None:
    """Which sessions, and how to tell of them."""
    command.add_argument("--from", dest="first", type=_day, metavar="DATE", help="first day of use, e.g. 2026-03-01")
    command.add_argument("--to", dest="last", type=_day, metavar="DATE", help="last day of use")
    command.add_argument(
        "--session", dest="keys", type=_key, action="append", default=[], metavar="KEY", help="only these; repeatable"
    )
    command.add_argument("--json", action="store_true", help="one JSON list on standard output")
    command.add_argument("--verbose", action="store_true", help="show Dagster's log")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        msg = f"'{text}' is no date; write it like 2026-03-01"
        raise argparse.ArgumentTypeError(msg) from None


def _key(text: str) -> str:
    try:
        parse_key(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(str(fault)) from None
    return text


def _build(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.building import Building, BusyError, Outcome, alone
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.publishing import Selection

    if options.first and options.last and options.last < options.first:
        msg = f"--to {options.last} lies before --from {options.first}; there is no day in between."
        raise ConfigurationError(msg)

    def show(outcome: Outcome) -> None:
        if not options.json:
            print(outcome.line(), flush=True)

    building = Building(settings(), verbose=options.verbose)
    copies: list[Delivery] = []
    unpublished: set[str] = set()
    if options.dry_run:
        outcomes = building.preview(options.first, options.last, options.keys, show)
    else:
        try:
            with alone(settings().data_path):
                outcomes = building.run(options.first, options.last, options.keys, show)
        except BusyError as busy:
            print(busy, file=sys.stderr)
            outcomes = []
        else:
            built = [outcome.key for outcome in outcomes if outcome.may_be_sent] if options.keys else []
            if not options.no_publish and bool(built) == bool(options.keys):
                copies, unpublished = _deliver(options, Selection(keys=built))
    if options.json:
        further = sorted({copy.key for copy in copies} - {outcome.key for outcome in outcomes})
        told = [*outcomes, *(building.outcome(key) for key in further)]
        print(
            json.dumps(
                [o.as_dict() | {"copies": [c.as_dict() for c in copies if c.key == o.key]} for o in told], indent=2
            )
        )
    for trouble in building.troubles:
        print(trouble, file=sys.stderr)
    failed = building.troubles or unpublished or any(outcome.failed for outcome in outcomes)
    return FAILED if failed else 0


def _publish(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.publishing import Selection

    selection = Selection(
        options.destination, options.keys, options.first, options.last, again=options.again, refused_too=True
    )
    copies, unpublished = _deliver(options, selection)
    if options.json:
        print(json.dumps([copy.as_dict() for copy in copies], indent=2))
    return FAILED if unpublished else 0


def _deliver(options: argparse.Namespace, selection: "Selection") -> "tuple[list[Delivery], set[str]]":
    """Send what is due; returns what became of it, and the sessions that are not published as they should be."""
    from nexuslims_pipeline.building import dagster_instance
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.publishing import Deliveries

    site = settings()
    deliveries = Deliveries(site, lambda: dagster_instance(site.data_path), verbose=options.verbose)

    def show(delivery: "Delivery") -> None:
        if not options.json:
            print(delivery.line(), flush=True)

    if options.dry_run:
        return deliveries.preview(selection, show), set()
    return deliveries.run(selection, show), deliveries.unpublished


def _withdraw(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.withdrawing import withdraw

    return 0 if withdraw(settings(), options.key, options.why, print) else FAILED


def _restore(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.withdrawing import restore

    restore(settings(), options.key)
    print(f"{options.key} is built again by the next build, if NEMO tells of consent.")
    return 0


def _cdcs_template(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.configuration import settings
    from resources.destinations.base import DestinationError
    from resources.destinations.cdcs import Cdcs
    from resources.destinations.cdcs_stylesheets import Stylesheets, addresses

    cdcs = Cdcs.configured(settings())
    if cdcs is None:
        msg = "NX_CDCS_URL is not set; set it and NX_CDCS_TOKEN."
        raise ConfigurationError(msg)
    try:
        print(cdcs.install_template(dry_run=options.dry_run), flush=True)
        for sentence in Stylesheets(cdcs, addresses(settings()), dry_run=options.dry_run).install():
            print(sentence, flush=True)
    except DestinationError as fault:
        print(fault, file=sys.stderr)
        return FAILED
    return 0


def _extract(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.extraction.standalone import describe, extract_file

    elements, failed = [], False
    for path in options.files:
        found, error = extract_file(path, None if options.no_preview else options.preview_folder)
        failed = failed or bool(error)
        elements += found
        if error:
            print(f"{path}: {error}", file=sys.stderr)
        if not options.json:
            print(describe(path, found))
    if options.json:
        print(json.dumps(elements, indent=2, ensure_ascii=True))
    return FAILED if failed else 0


def _doctor(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.doctor import examine

    findings = examine()
    if options.json:
        print(json.dumps([{"subject": f.subject, "fine": f.fine, "message": f.message} for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok    ' if finding.fine else 'MEND  '} {finding.subject}: {finding.message}")
    if any(f.is_configuration and not f.fine for f in findings):
        return MISCONFIGURED
    return 0 if all(f.fine for f in findings) else FAILED


def _demo(options: argparse.Namespace) -> int:
    from nexuslims_pipeline.demo.facility import write_facility

    folder: Path = options.folder.absolute()
    write_facility(folder)
    for name in [name for name in os.environ if name.startswith("NX_")]:
        del os.environ[name]
    load_dotenv(folder / "demo.env", override=True)

    from nexuslims_pipeline.building import Building, dagster_instance
    from nexuslims_pipeline.configuration import settings
    from nexuslims_pipeline.publishing import Deliveries, Selection

    settings.cache_clear()
    site = settings()
    print(f"Building the sessions of a small facility of our own making below {folder}\n")
    outcomes = Building(site).run(date(2020, 1, 1), None, [], lambda outcome: print(outcome.line(), flush=True))
    deliveries = Deliveries(site, lambda: dagster_instance(site.data_path))
    deliveries.run(Selection(), lambda delivery: print(delivery.line(), flush=True))
    print(
        f"\nRecords:   {site.records_folder}\n"
        f"Portal:    {(site.portal_folder / 'index.html').as_uri()} (open it in a browser)\n"
        f"Crates:    {site.crates_path} (RO-Crates, which electronic lab notebooks import)\n"
        f"Previews:  {site.data_path / 'datasets'}\n"
        f"Tables:    {site.data_path / 'catalog.duckdb'} (SQL views: sessions, files, datasets, fields …)\n"
        "The graph: run 'make ui' and open http://127.0.0.1:3000"
    )
    return FAILED if deliveries.unpublished or any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
