"""How a site wants its files read, beyond what is in them."""

from dataclasses import dataclass, field

from nexuslims_pipeline.extraction.plugins import preview_plugins
from nexuslims_pipeline.extraction.profiles.loading import Profiles


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The site's profiles and wishes; the processes that read files get them when they begin."""

    profiles: Profiles = field(default_factory=Profiles)
    omit_personal_data: bool = False
    """Whether what tells of persons is left out of sidecars and records."""

    def in_words(self, instrument_id: str | None) -> str:
        """What the result for an instrument's files depends on, in one text: if it changes, they are read again."""
        words = [f"profiles {digest}" if (digest := self.profiles.digest(instrument_id)) else ""]
        words.append("without personal data" if self.omit_personal_data else "")
        words += [f"preview {version}" for version in preview_plugins().versions]
        return "; ".join(filter(None, words))
