"""The site's choice of how finely sessions are parted."""

from typing import Any

from dagster import ConfigurableResource


class ClusteringRule(ConfigurableResource[Any]):
    """``NX_CLUSTERING_SENSITIVITY`` and ``NX_CLUSTERING_MINIMUM_GAP``."""

    sensitivity: float = 1.0
    minimum_gap_seconds: float = 0.0
