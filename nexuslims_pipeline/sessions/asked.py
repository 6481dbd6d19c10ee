"""What a sensor has asked for already, so that it asks once per change and, when a run was lost, again later."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Self

from pydantic import AwareDatetime, BaseModel, ValidationError

AT_ONCE = 100
"""Most sessions asked for at one look; the rest follows at the next."""
FIRST_REPEAT = timedelta(minutes=15)
LONGEST_REPEAT = timedelta(days=1)


class Question(BaseModel):
    """One session that was asked for."""

    token: str
    """What was asked for: changes when NEMO's answer or the session's files do."""
    at: AwareDatetime
    times: int = 1


class Memory(BaseModel):
    """A sensor's cursor."""

    version: int = 1
    high_water: AwareDatetime | None = None
    """Latest end of a use that was seen: after a long silence, looking begins there."""
    asked: dict[str, Question] = {}

    @classmethod
    def read(cls, cursor: str | None) -> Self:
        """The memory in a cursor; an empty one when there is none or it is damaged, which loses nothing."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()

    def text(self) -> str:
        """The memory as a cursor."""
        return self.model_dump_json()

    def choose(
        self,
        due: Mapping[str, str],
        busy: Collection[str],
        now: datetime,
        *,
        most: int = AT_ONCE,
        longest: timedelta = LONGEST_REPEAT,
    ) -> list[str]:
        """Keys to ask for now.

        Parameters
        ----------
        due
            Token of each session that is due, by key.
        busy
            Keys with an unfinished run.
        now
            The time.
        most
            Most keys to choose.
        longest
            Longest pause before a key is asked for again.

        Returns
        -------
        list of str
            Keys in the order of `due`: those that were never asked for under this token, and those whose run came to
            nothing a while ago (15 minutes, then twice as long each time).
        """
        self.asked = {key: question for key, question in self.asked.items() if key in due}
        free = (key for key, token in due.items() if key not in busy and self._may_ask(key, token, now, longest))
        chosen = list(islice(free, most))
        for key in chosen:
            known = self.asked.get(key)
            times = known.times + 1 if known and known.token == due[key] else 1
            self.asked[key] = Question(token=due[key], at=now, times=times)
        return chosen

    def raise_high_water(self, ends: Iterable[datetime]) -> None:
        """Remember the latest end that was seen."""
        self.high_water = max([*ends, *filter(None, [self.high_water])], default=None)

    def _may_ask(self, key: str, token: str, now: datetime, longest: timedelta) -> bool:
        known = self.asked.get(key)
        if known is None or known.token != token:
            return True
        pause: timedelta = min(FIRST_REPEAT * 2 ** min(known.times - 1, 20), longest)
        return not timedelta(0) <= now - known.at < pause  # a clock that was put back must not silence it
