"""A record is asked what it holds, not those who made it."""

from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.records.contents import unaccounted_files
from nexuslims_pipeline.records.schema import NAMESPACE

RECORD = f"""<Experiment xmlns="{NAMESPACE}"><summary/>
  <acquisitionActivity><dataset><name>a</name><location>/T/a%20b.dm3</location></dataset></acquisitionActivity>
  <notes><entry><table><rows><row><cell colid="location">/T/pipe</cell></row></rows></table></entry></notes>
</Experiment>""".encode()


def test_every_kind_of_entry_is_looked_for_in_its_place() -> None:
    entries = [
        InventoryEntry("/T/a%20b.dm3", "included", ""),
        InventoryEntry("/T/pipe", "refused", ""),
        InventoryEntry("/T/notes.txt", "ignored", ""),
    ]
    assert unaccounted_files(RECORD, entries) == []

    lost = [InventoryEntry("/T/pipe", "included", ""), InventoryEntry("/T/other", "contested", "")]
    assert unaccounted_files(RECORD, [*entries, *lost]) == ["/T/other", "/T/pipe"]
