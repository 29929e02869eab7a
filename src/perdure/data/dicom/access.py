"""How is a PACS let know who asks, and how do we know that it is the PACS?"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from requests import PreparedRequest

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """What a PACS asks for before it lets somebody in.

    Args:
        token: sent as a bearer token; `SCHEME CREDENTIALS` with a space in it is sent as it stands (`Basic ...`).
        authority: file of the certificates that the server's must come from; those of public authorities if left out.
        certificate: file of the certificate by which the server knows us.
        key: file of its private key, without a password; may stand in `certificate`.
    """

    token: str | None = None
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __repr__(self) -> str:
        return f"Access(token={'given' if self.token else None}, authority={self.authority})"


def checked_host(url: str, access: Access) -> str:
    """The address of the machine, without the path.

    Raises:
        ConfigurationError: the URL is none, holds a password, or a token would travel in the clear.
    """
    no_address = ConfigurationError("--dicomweb: must be an address such as https://pacs.example/dicom-web.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # a bracket that does not close, or a port that is no number up to 65535
        raise no_address from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise no_address
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("--dicomweb: must hold no user or password; give a token by --token-file.")
    if access.token and parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
        raise ConfigurationError("--dicomweb: a token travels by https:// alone; by http:// anyone could read it.")
    return f"{parts.scheme}://{parts.netloc}"


def session_for(access: Access) -> requests.Session:
    """What sends requests, with token and certificates.

    Raises:
        ConfigurationError: a file of `access` is missing, or holds something else.
    """
    _check_certificates(access)
    session = requests.Session()
    # a .netrc, a proxy or a certificate bundle that the environment names must not decide where patients' data go
    session.trust_env = False
    session.auth = _Token(access.token) if access.token else None
    session.verify = str(access.authority) if access.authority else True
    if access.certificate:
        session.cert = (str(access.certificate), str(access.key)) if access.key else str(access.certificate)
    return session


class _Token(requests.auth.AuthBase):
    """Adds the token to a request; the session takes it off where a redirection leads to another host."""

    def __init__(self, token: str) -> None:
        self._value = token if " " in token else f"Bearer {token}"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def _check_certificates(access: Access) -> None:
    for option, file in (
        ("--ca", access.authority), ("--client-cert", access.certificate), ("--client-key", access.key)
    ):  # fmt: skip
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{option} {file}: no such file.")
    if access.key and not access.certificate:
        raise ConfigurationError("--client-key: goes with --client-cert.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if access.authority:
            context.load_verify_locations(access.authority)
    except ssl.SSLError as error:
        raise ConfigurationError(f"--ca {access.authority}: holds no certificate in PEM ({error.reason}).") from error
    try:
        if access.certificate:
            # an empty password, because OpenSSL would ask for one on the terminal
            context.load_cert_chain(access.certificate, access.key, password="")
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"--client-cert {access.certificate}: no certificate with its private key, both in PEM and without a "
            f"password ({error.reason})."
        ) from error
