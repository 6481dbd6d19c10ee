"""How records look in a CDCS: our stylesheets, bound to the template of the records.

To each version of a template CDCS binds a stylesheet for lists of results, any number that readers may choose from on
the page of a record, and the one of these that is shown first. What people have chosen there stays; ours are added.

``/rest/xslt/`` and ``/rest/template/xsl_rendering/`` as in CDCS 2.23 (https://github.com/usnistgov/core_main_app).
"""

from collections.abc import Iterator

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.portal.page import Places, cdcs_stylesheet
from nexuslims_pipeline.records.text import clean
from resources.destinations.base import DestinationRefusedError
from resources.destinations.cdcs import Cdcs, Item

DETAIL, LIST = "nexuslims-pipeline-record.xsl", "nexuslims-pipeline-list.xsl"
"""Names of our stylesheets; any other is somebody else's."""


class Stylesheet(Item):
    """A stylesheet."""

    id: int
    name: str
    content: str


class Binding(Item):
    """The stylesheets of a version of a template, under CDCS's names."""

    id: int | None = None
    """None for one that CDCS does not have yet."""
    template: int
    """The version."""
    list_xslt: int | None = None
    default_detail_xslt: int | None = None
    list_detail_xslt: tuple[int, ...] = ()

    def with_ours(self, detail: int, in_lists: int) -> "Binding":
        """The same with our stylesheets: to choose from, and in use where nobody has chosen another."""
        offered = self.list_detail_xslt if detail in self.list_detail_xslt else (*self.list_detail_xslt, detail)
        return self.model_copy(
            update={
                "list_xslt": in_lists if self.list_xslt is None else self.list_xslt,
                "default_detail_xslt": detail if self.default_detail_xslt is None else self.default_detail_xslt,
                "list_detail_xslt": offered,
            }
        )

    def of_version(self, version: int) -> "Binding":
        """The same for a version that CDCS has bound nothing to."""
        return self.model_copy(update={"id": None, "template": version})


def addresses(site: Settings) -> Places:
    """What pages in CDCS may link to. From the web, browsers follow no ``file:``."""
    given = {"datasets": site.datasets_url, "raw": site.raw_url, "records": site.records_url, "crates": site.crates_url}
    return Places(**{name: "" if address.startswith("file:") else address for name, address in given.items()})


class Stylesheets:
    """Our stylesheets in a CDCS.

    Parameters
    ----------
    cdcs
        The CDCS.
    places
        What its pages may link to.
    dry_run
        Only tell what would be done.
    """

    def __init__(self, cdcs: Cdcs, places: Places, *, dry_run: bool = False) -> None:
        self._cdcs = cdcs
        self._server = cdcs.server
        self._places = places
        self._dry_run = dry_run
        self._there: dict[str, Stylesheet] = {}

    def install(self) -> Iterator[str]:
        """Make our stylesheets, or renew them, and bind them to the template; whatever is right already stays.

        Yields
        ------
        str
            What was done, or would be, in sentences.
        """
        self._there = {sheet.name: sheet for sheet in self._stylesheets()}
        yield self._put(DETAIL, cdcs_stylesheet("record", self._places))
        yield self._put(LIST, cdcs_stylesheet("list", self._places))
        if not self._places.datasets:
            yield "Pages in CDCS show no previews: NX_DATASETS_URL is no address on the web."
        yield from self._bind()

    def _stylesheets(self) -> list[Stylesheet]:
        try:
            return self._server.rows(Stylesheet, "rest/xslt/")
        except DestinationRefusedError as refusal:
            msg = f"{refusal} Who sets up stylesheets needs the token of a staff account in NX_CDCS_TOKEN."
            raise DestinationRefusedError(msg) from None

    def _put(self, name: str, content: str) -> str:
        sheet = self._there.get(name)
        if sheet is not None and sheet.content == content:
            return f"The stylesheet '{name}' on {self._server.whom} is up to date."
        change = "made" if sheet is None else "renewed"
        if self._dry_run:
            self._there.setdefault(name, Stylesheet(id=0, name=name, content=content))
            return f"The stylesheet '{name}' would be {change} on {self._server.whom}."
        if sheet is None:
            body = {"name": name, "filename": name, "content": content}
            answer = self._server.call("POST", "rest/xslt/", json=body, expect=(201,))
        else:
            answer = self._server.call("PATCH", f"rest/xslt/{sheet.id}/", json={"content": content})
        self._there[name] = self._server.as_row(Stylesheet, self._server.json(answer))
        return f"The stylesheet '{name}' was {change} on {self._server.whom}."

    def _bind(self) -> Iterator[str]:
        """Bind them to every version of the template, for each keeps its records."""
        template = self._cdcs.template()
        if template is None:  # so far, in a dry run
            yield "The template would have these stylesheets."
            return
        stored = {row.template: row for row in self._server.rows(Binding, "rest/template/xsl_rendering/")}
        latest, wanted = Binding(template=template.current), {}
        for version in sorted({*template.versions, template.current}):
            # CDCS binds nothing to a new version: what was chosen for the one before it goes on.
            chosen = stored.get(version) or latest.of_version(version)
            wanted[version] = latest = chosen.with_ours(self._there[DETAIL].id, self._there[LIST].id)
        changed = [binding for version, binding in wanted.items() if binding != stored.get(version)]
        title = clean(template.title)
        if not changed:
            yield f"The template '{title}' has these stylesheets already."
        elif self._dry_run:
            yield f"The template '{title}' would have these stylesheets."
        else:
            for binding in changed:
                self._store(binding)
            yield f"The template '{title}' has these stylesheets now."
        yield from self._chosen_by_others(wanted[template.current])

    def _store(self, binding: Binding) -> None:
        body = binding.model_dump(exclude={"id"})
        if binding.id is None:
            self._server.call("POST", "rest/template/xsl_rendering/", json=body, expect=(201,))
        else:  # CDCS empties what a PATCH leaves out
            self._server.call("PATCH", f"rest/template/xsl_rendering/{binding.id}/", json=body)

    def _chosen_by_others(self, binding: Binding) -> Iterator[str]:
        """Where a stylesheet that is not ours comes first."""
        names = {sheet.id: clean(sheet.name) for sheet in self._there.values()}
        if binding.default_detail_xslt != self._there[DETAIL].id:
            name = names.get(binding.default_detail_xslt or 0, "another")
            yield f"Pages of records begin with '{name}', as chosen in CDCS; there, '{DETAIL}' can be chosen instead."
        if binding.list_xslt != self._there[LIST].id:
            name = names.get(binding.list_xslt or 0, "another")
            yield f"Lists of records keep '{name}', as chosen in CDCS; there, '{LIST}' can be chosen instead."
