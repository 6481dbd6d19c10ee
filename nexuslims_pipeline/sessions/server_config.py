"""How a NEMO server is reached."""

from typing import Self
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class NemoServerConfig(BaseModel):
    """One NEMO server, or a folder of its saved answers."""

    # A pydantic error must never repeat its input: it may be the token.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9.]{1,40}$")
    """Name of the server: part of session keys."""
    address: str
    """Root of the API with a slash at its end (``https://nemo.example.org/api/``), or ``file:///folder/``."""
    token: SecretStr | None = None
    """Token of a NEMO user who may view usage events, reservations, users, tools and projects."""
    time_zone: str | None = None
    """IANA zone of the server's times without an offset."""
    strptime_format: str | None = None
    """Format of the times that the server sends, when it is not ISO 8601."""
    strftime_format: str | None = None
    """Format of the times that the server wants, when it is not ISO 8601."""

    @field_validator("address")
    @classmethod
    def _address_is_a_root(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https", "file"} or (parts.scheme != "file" and not parts.hostname):
            msg = "the address must be whole, such as https://nemo.example.org/api/ or file:///srv/nemo/"
            raise ValueError(msg)
        if not value.endswith("/") or parts.query or parts.fragment:
            msg = "the address must end with '/', without anything behind it"
            raise ValueError(msg)
        if parts.username is not None or parts.password is not None:
            msg = "the address must not hold a user or password; the token goes into its own setting"
            raise ValueError(msg)
        return value

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value is not None else "x"
        if not (text.isascii() and text.isprintable()) or not text or " " in text:
            msg = "the token has blanks or special characters; copy it once more from NEMO"
            raise ValueError(msg)
        return value

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            msg = f"'{value}' is no time zone; use an IANA name such as America/Denver"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _server_has_a_token(self) -> Self:
        if self.token is None and not self.is_folder:
            msg = "a NEMO server needs a token"
            raise ValueError(msg)
        return self

    @property
    def is_folder(self) -> bool:
        """Whether the answers come from a folder."""
        return self.address.startswith("file:")

    @property
    def web_address(self) -> str | None:
        """Root of the pages for people; None for a folder."""
        return None if self.is_folder else self.address.removesuffix("api/")
