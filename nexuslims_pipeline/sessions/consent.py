"""Whether the user agreed that the session's data are curated.

Consent is given by a short list of affirmative words and by nothing else: a wording that nobody thought of is
a refusal, never an agreement.
"""

from enum import StrEnum

from nexuslims_pipeline.sessions.answers import Form, answer, shown

QUESTION = "data_consent"
AFFIRMATIVE = frozenset({"agree", "yes", "true", "affirmative"})


class Consent(StrEnum):
    """Answer to the question for consent."""

    GIVEN = "GIVEN"
    REFUSED = "REFUSED"
    """Answered, but not with an affirmative word; no other form can overrule it."""
    ABSENT = "ABSENT"
    """Not asked or not answered (also null, empty or blank): another form may have the answer."""


def consent_of(form: Form) -> Consent:
    """Consent in one form."""
    given = answer(form, QUESTION)
    if given is None:
        return Consent.ABSENT
    agreed = given is True or (isinstance(given, str) and given.strip().casefold() in AFFIRMATIVE)
    return Consent.GIVEN if agreed else Consent.REFUSED


def consent_in_words(form: Form) -> str:
    """Word the answer for a facility manager."""
    words = ", ".join(sorted(AFFIRMATIVE))
    return f"the answer to '{QUESTION}' is {shown(answer(form, QUESTION))}, which is none of: {words}"
