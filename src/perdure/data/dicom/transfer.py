"""Did an answer come whole, and may a failure pass by itself?"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from email.message import Message
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from requests import Response

PASSING = (408, 425, 429, 502, 503, 504)
"""Answers of a server that is busy, or of a gateway that does not reach it."""


def refuse_part(response: Response, *_: object, **__: object) -> Response:
    """Raises if the body may have been cut short.

    Where a length was announced, or the body came in chunks, urllib3 has looked; a multipart message has an end of its
    own, and JSON cannot be read without its last bracket. Nothing tells of any other.
    """
    kind = Message()
    kind["Content-Type"] = response.headers.get("Content-Type", "")
    boundary = kind.get_boundary()
    body = response.content
    if boundary is not None:
        is_whole = body.rstrip().endswith(f"--{boundary}--".encode())
    else:
        announced = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        is_whole = announced or "json" in kind.get_content_type() or not body
    if response.ok and not is_whole:
        raise requests.exceptions.ChunkedEncodingError("the answer has no end")
    return response


def may_pass(error: requests.RequestException, status: int | None) -> bool:
    """Whether the same request may succeed a little later."""
    if status is not None:
        return status in PASSING
    lost = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        requests.exceptions.JSONDecodeError,
    )
    return isinstance(error, lost) and not is_untrusted(error)


def is_untrusted(error: BaseException) -> bool:
    """Whether the server's certificate was refused."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it came from; urllib3 hands its own on as arguments and as `reason`."""
    seen: list[BaseException] = [error]
    for one in seen:
        yield one
        further = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        seen += [each for each in further if isinstance(each, BaseException) and each not in seen]


def in_words(error: requests.RequestException) -> str:
    """What happened."""
    # not the error's own words: they hold the address with all its UIDs
    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached, or broke the connection"
    return "the answer was cut short"
