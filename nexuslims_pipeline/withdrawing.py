"""Withdraw a session by hand, and let it be built again."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nexuslims_pipeline.building import dagster_instance
from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.sessions.keys import event_of


def withdraw(site: Settings, key: str, why: str, show: Callable[[str], object]) -> bool:
    """Remove all that was made of a session: from the store, from Dagster's history, from every destination.

    It stays withdrawn, whatever NEMO says, until `restore`. Safe to repeat.

    Parameters
    ----------
    site
        The site's settings.
    key
        The session, built or not.
    why
        Kept in the tombstone.
    show
        Told, line by line, what was done, and of what is left what to do about it.

    Returns
    -------
    bool
        Whether nothing is left. Copies that could not be removed are tried again by the destination's sensor and by
        each ``publish``.

    Raises
    ------
    ConfigurationError
        When nobody has ever seen the session.
    """
    from nexuslims_pipeline.definitions import resources_of
    from resources.history import withdraw_here
    from resources.publications import Publishing
    from resources.store import Store, Tombstone

    doors: dict[str, Any] = resources_of(site)
    store: Store = doors["store"]
    publishing: Publishing = doors["publishing"]
    known = store.key_of(*event_of(key), key if store.has_made(key) else "")
    if known != key:
        doubt = f"that usage event has the key '{known}'" if known else "it was never harvested from NEMO"
        raise ConfigurationError(f"There is no session '{key}': {doubt}.")
    earlier = store.tombstone(key)
    asked = Tombstone(key=key, time=earlier.time if earlier else datetime.now(UTC), why=why, by_hand=True)
    tombstone = withdraw_here(store, dagster_instance(site.data_path), asked)
    store.finish(key)
    show(f"{key}: {tombstone.remains or 'removed from the store and from the history of Dagster.'}")
    try:
        publishers = publishing.publishers(store, doors["storage"])
    except ConfigurationError as mistake:
        show(f"The copies at the destinations stay: {mistake}")
        return False
    answers = [_withdraw_at(publisher, key, show) for publisher in publishers]
    stay = publishing.unreachable_copies(key, store)
    for copy in stay:
        show(copy)
    return all(answers) and not stay and not tombstone.remains


def _withdraw_at(publisher: Any, key: str, show: Callable[[str], object]) -> bool:
    name = publisher.destination.name
    try:
        result = publisher.publish(key)
    except Exception as fault:  # whatever one destination raises must not keep the others' copies there
        show(f"{name}: not withdrawn yet: {fault} Its sensor and each 'nexuslims-pipeline publish' try again.")
        return False
    show(f"{name}: withdrawn.")
    for copy in (stay := result.elsewhere if result else ()):
        show(f"{name}: {copy} stays, since the settings named another server or folder then; remove it there by hand.")
    return not stay


def restore(site: Settings, key: str) -> None:
    """Let a session that was withdrawn by hand be built again, if NEMO tells of consent.

    Raises
    ------
    ConfigurationError
        When it was not withdrawn by hand.
    """
    from nexuslims_pipeline.definitions import resources_of
    from resources.store import Store

    doors: dict[str, Any] = resources_of(site)
    store: Store = doors["store"]
    tombstone = store.tombstone(key)
    if tombstone is None or not tombstone.by_hand:
        why = f"its consent was taken back in NEMO: {tombstone.why}" if tombstone else "there is no tombstone of it"
        raise ConfigurationError(f"{key} was not withdrawn by hand; {why}.")
    store.unbury(key)
