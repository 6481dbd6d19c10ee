"""The site's choice of how finely sessions are parted."""

from typing import Any

from dagster import ConfigurableResource


class ClusteringRule(ConfigurableResource[Any]):
    """``NX_CLUSTERING_SENSITIVITY`` and ``NX_CLUSTERING_MINIMUM_GAP``."""

    sensitivity: float = 1.0
    minimum_gap_seconds: float = 0.0

    def in_words(self) -> str:
        """The rule in one text, which changes when activities may come out differently."""
        return f"sensitivity {self.sensitivity:g}, minimum gap {self.minimum_gap_seconds:g} s"
