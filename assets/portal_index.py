"""The portal's front page."""

from dagster import MaterializeResult, MetadataValue, asset

from resources.publications import Publishing

VERSION = "1"


@asset(
    group_name="facility",
    kinds={"html"},
    owners=["team:facility"],
    code_version=VERSION,
    deps=["record_page"],
)
def portal_index(publishing: Publishing) -> MaterializeResult[None]:
    """The portal's front page and the index that it searches; only what changed is written anew."""
    portal = publishing.portal()
    report = portal.refresh()
    return MaterializeResult(
        metadata={
            "front page": MetadataValue.url((portal.folder / "index.html").as_uri()),
            "sessions": report.sessions,
            "months written anew": len(report.rewritten),
            "months removed": len(report.removed),
            "unreadable": MetadataValue.md("\n".join(f"- {path}" for path in report.unreadable) or "none"),
        }
    )
