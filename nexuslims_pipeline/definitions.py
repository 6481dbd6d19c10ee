"""The code location: the graph, its jobs and sensors, bound to the site's settings."""

from dagster import DefaultScheduleStatus, Definitions, ScheduleDefinition, define_asset_job, in_process_executor

from assets.activities import activities
from assets.catalog import catalog_views
from assets.destinations import destination_asset, status_asset
from assets.file_inventory import file_inventory
from assets.file_metadata import file_metadata
from assets.portal_index import portal_index
from assets.record import record
from assets.session import session
from assets.usage_event import usage_event
from nexuslims_pipeline.configuration import Settings, is_configured, settings
from nexuslims_pipeline.jobs import build_sessions, harvest, publish_job
from nexuslims_pipeline.sensors import nemo_sensor, portal_sensor, publish_sensor, storage_sensor
from resources.activities import ClusteringRule
from resources.catalog import Catalog
from resources.destinations.known import destinations_of
from resources.destinations.portal import Portal
from resources.nemo import NemoResource
from resources.publications import Publishing
from resources.storage import InstrumentStorage
from resources.store import Store

STAGES = (usage_event, session, file_inventory, file_metadata, activities, record)
CODE_VERSIONS = {stage.key.to_user_string(): str(stage.code_versions_by_key[stage.key]) for stage in STAGES}
"""Version of the code of each stage: a session built by an older one is built again."""

refresh_portal = define_asset_job("refresh_portal", selection=["portal_index"], executor_def=in_process_executor)
refresh_catalog = define_asset_job("refresh_catalog", selection=["catalog"], executor_def=in_process_executor)


def build_definitions(site: Settings | None) -> Definitions:
    """Everything that Dagster shows and runs.

    Parameters
    ----------
    site
        The site's settings; None for a clone that nobody has configured yet: the graph can be looked at, and its
        assets say what to set when they are run.
    """
    destinations = list(destinations_of(site).values()) if site else []
    assets_of = {destination.name: destination.asset_name for destination in destinations}
    publishing = {name: publish_job(name, asset_name) for name, asset_name in assets_of.items()}
    return Definitions(
        assets=[
            *STAGES,
            *(destination_asset(destination, assets_of) for destination in destinations),
            status_asset(assets_of.values()),
            catalog_views,
            *([portal_index] if Portal.name in assets_of else []),
        ],
        jobs=[
            build_sessions,
            harvest,
            refresh_catalog,
            *([refresh_portal] if Portal.name in assets_of else []),
            *publishing.values(),
        ],
        schedules=[
            ScheduleDefinition(
                job=refresh_catalog, cron_schedule="17 * * * *", default_status=DefaultScheduleStatus.RUNNING
            )
        ],
        sensors=[
            *([nemo_sensor(name, site) for name in site.nemo_servers] if site else []),
            *([storage_sensor(name, site) for name in site.instruments] if site else []),
            *([portal_sensor(refresh_portal, site)] if site and Portal.name in assets_of else []),
            *([publish_sensor(name, job, site) for name, job in publishing.items()] if site else []),
        ],
        resources=resources_of(site),
        executor=in_process_executor,
    )


def resources_of(site: Settings | None) -> dict[str, object]:
    """The doors to the outside world, by the name under which assets ask for them."""
    if site is None:
        return {
            "nemo": NemoResource(),
            "storage": InstrumentStorage(root_path="", instruments_file=""),
            "store": Store(data_path=""),
            "publishing": Publishing(),
            "catalog": Catalog(data_path=""),
            "clustering_rule": ClusteringRule(),
        }
    return {
        "nemo": NemoResource(),
        "storage": InstrumentStorage(
            root_path=str(site.instrument_data_path),
            instruments_file=str(site.instruments_file),
            file_strategy=site.file_strategy,
            ignore_patterns=site.ignore_patterns,
            file_delay_days=site.file_delay_days,
            settle_seconds=site.settle_seconds,
            extraction_workers=site.extraction_workers,
            file_time_limit=site.file_time_limit,
            file_memory_limit=site.file_memory_limit,
            profiles_path=str(site.local_profiles_path or ""),
            omit_personal_data=site.omit_personal_data,
        ),
        "store": Store(data_path=str(site.data_path), records_path=str(site.records_folder)),
        "publishing": Publishing(strategy=site.export_strategy),
        "catalog": Catalog(data_path=str(site.data_path)),
        "clustering_rule": ClusteringRule(
            sensitivity=site.clustering_sensitivity, minimum_gap_seconds=site.clustering_minimum_gap
        ),
    }


defs = build_definitions(settings() if is_configured() else None)
