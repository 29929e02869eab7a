"""How does a series come from a PACS, and a result go back?

By DICOMweb (PS3.18): QIDO-RS says what there is, WADO-RS brings it instance by instance, STOW-RS takes the result. What
may pass by itself (a connection that breaks, a server that is busy) is tried again, with twice the wait each time. An
answer that was cut short is never taken for a whole one.

No message says more of a patient than UIDs: neither a server's own words nor a token is repeated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from time import sleep
from typing import TYPE_CHECKING, Any, Self, TypeVar

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread

from perdure.data.dicom.access import Access, checked_host, session_for
from perdure.data.dicom.opening import damaged, quiet
from perdure.data.dicom.transfer import PASSING, in_words, is_untrusted, may_pass, refuse_part
from perdure.errors import ConfigurationError, PacsError

# without a handler they would print on standard error what is an error of ours, or is tried again
for _library in ("dicomweb_client", "retrying", "urllib3"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from requests import Response

    Record = Mapping[str, Any]

T = TypeVar("T")

ATTEMPTS = 5
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before the second attempt; each further wait is twice as long, but for the longest."""

_MOST_RECORDS = 100_000
_SERIES, _INSTANCE = "0020000E", "00080018"
_MODALITY, _DESCRIPTION, _COUNT = "00080060", "0008103E", "00201209"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_DUPLICATE = 0x0111
_REASONS = {
    0x0110: "processing failed",
    0x0122: "it takes no segmentations",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "the object does not match its class",
    0xC000: "it cannot understand the object",
}
"""PS3.18, table I.2-2."""


@dataclass(frozen=True)
class OfferedSeries:
    """What a PACS says of a series.

    Args:
        uid: Series Instance UID.
        modality: `MR`, `CT`, ...
        description: what the scanner or its operator called it.
        instances: how many there are; None where the PACS does not say.
    """

    uid: str
    modality: str
    description: str
    instances: int | None


class Pacs:
    """A DICOMweb server; `with` closes the connections to it.

    Args:
        url: where its DICOMweb services begin, `https://pacs.example/dicom-web`.
        access: token and certificates.
        attempts: how often a request is sent before it counts as failed.
        timeout: seconds without a byte after which a connection counts as broken.

    Raises:
        ConfigurationError: the URL is none, holds a password, or a token would travel in the clear; a file of `access`
            is missing.
    """

    def __init__(
        self, url: str, access: Access | None = None, *, attempts: int = ATTEMPTS, timeout: float = TIMEOUT
    ) -> None:
        access = access or Access()
        self.host = checked_host(url, access)
        self._attempts = attempts
        self._session = session_for(access)
        self._client = DICOMwebClient(
            url.rstrip("/"), self._session, callback=refuse_part, timeout=timeout, permissive_uid=True
        )
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def series(self, study: str) -> tuple[OfferedSeries, ...]:
        """The series of a study.

        Raises:
            PacsError: it has none, or the PACS cannot be asked.
        """
        if not is_uid(study):
            raise ConfigurationError(f"--study {study!r}: a UID is digits and dots, at most 64 characters.")
        records = self._listed("the series of the study", _SERIES, lambda at: self._client.search_for_series(
            study, offset=at, fields=["Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"]
        ))  # fmt: skip
        if not records:
            raise PacsError(f"{self.host} has no study {study}: see whether it is the Study Instance UID.")
        return tuple(
            OfferedSeries(uid, str(_value(r, _MODALITY) or ""), str(_value(r, _DESCRIPTION) or ""), _number(r, _COUNT))
            for uid, r in records.items()
        )

    def instances(self, study: str, series: OfferedSeries) -> tuple[str, ...]:
        """The SOP Instance UIDs of a series.

        Raises:
            PacsError: they are not as many as the PACS says, or it cannot be asked.
        """
        found = self._listed("the instances of the series", _INSTANCE, lambda at: self._client.search_for_instances(
            study, series.uid, offset=at
        ))  # fmt: skip
        if not found or series.instances not in (None, len(found)):
            raise PacsError(
                f"{self.host} lists {len(found)} instances of series {series.uid} and says that there are "
                f"{series.instances}: it may still be receiving them; try again later."
            )
        return tuple(found)

    def instance(self, study: str, series: str, uid: str) -> bytes:
        """One instance as a DICOM file, in the transfer syntax that the PACS keeps it in.

        Raises:
            PacsError: it cannot be had, or something else was sent.
        """
        what = f"instance {uid}"
        dataset = self._asked(what, lambda: self._client.retrieve_instance(study, series, uid))
        try:
            told = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            content = BytesIO()
            with quiet():
                dataset.save_as(content, enforce_file_format=True)
        except damaged() as error:
            raise self._nonsense(what) from error
        if told != (study, series, uid):
            raise PacsError(f"{self.host}: asked for {what}, it sent another one.")
        return content.getvalue()

    def store(self, content: bytes) -> str:
        """Stores one DICOM file in its study; one that is there already is left as it is.

        Returns:
            What became of it, in words.

        Raises:
            PacsError: it did not say that it stored it.
        """
        dataset = dcmread(BytesIO(content))
        what, study = "the storing of the segmentation", dataset.StudyInstanceUID
        try:
            answer = self._asked(what, lambda: self._client.store_instances([dataset], study), raw=(409,))
        except requests.HTTPError as error:
            answer = _refusal(error.response)
        try:
            return self._outcome(answer, str(dataset.SOPInstanceUID))
        except damaged():
            raise self._nonsense(what) from None

    def _outcome(self, answer: Dataset, uid: str) -> str:
        kept = [item for item in answer.get("ReferencedSOPSequence") or [] if _says(item, uid)]
        if kept:
            warning = kept[0].get("WarningReason")
            return "stored" if warning is None else f"stored, with warning {int(warning):04X} of the PACS"
        failed = [item for item in answer.get("FailedSOPSequence") or [] if _says(item, uid)]
        reason = int(failed[0].FailureReason) if failed and "FailureReason" in failed[0] else None
        if reason == _DUPLICATE:
            return "was stored before"
        words = next((f" ({text})" for code, text in _REASONS.items() if reason and _alike(code, reason)), "")
        why = "without a reason" if reason is None else f"reason {reason:04X}{words}"
        raise PacsError(
            f"{self.host} did not store the segmentation: {why}. The file is kept; run the same command again when the "
            "PACS takes it."
        )

    def _listed(self, what: str, key: str, search: Callable[[int | None], object]) -> dict[str, Record]:
        """All records of a search, page by page, by the UID that tells them apart."""
        found: dict[str, Record] = {}
        while True:
            page = self._asked(what, partial(search, len(found) or None))
            named = {_value(record, key): record for record in page} if isinstance(page, list) else {None: {}}
            if not all(isinstance(uid, str) and is_uid(uid) for uid in named):
                raise self._nonsense(what)
            if not named.keys() - found:  # the end, or a server that knows no pages and says the same again
                return found
            found |= named
            if len(found) > _MOST_RECORDS:
                raise PacsError(f"{self.host}: asked for {what}, it goes on beyond {_MOST_RECORDS:,} of them.")

    def _asked(self, what: str, ask: Callable[[], T], raw: tuple[int, ...] = ()) -> T:
        """The answer to a question, asked again where the failure may pass; HTTP errors of `raw` are raised as such."""
        for wait in self._waits():
            try:
                with quiet():
                    return ask()
            except requests.RequestException as error:
                status = error.response.status_code if error.response is not None else None
                if status in raw:
                    raise
                if wait is None or not may_pass(error, status):
                    raise self._failure(what, error, status) from None
                sleep(wait)
            except damaged():
                # without its cause, which may hold a line of the answer
                raise self._nonsense(what) from None
        raise AssertionError("the last wait is None")

    def _waits(self) -> Iterator[float | None]:
        for attempt in range(self._attempts - 1):
            yield min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT)
        yield None

    def _failure(self, what: str, error: requests.RequestException, status: int | None) -> PacsError:
        asked = f"{self.host}: asked for {what}"
        if status in (401, 403):
            return PacsError(
                f"{asked}, it refused ({status}): it takes another token or certificate; give one by --token-file, or "
                "--client-cert and --client-key."
            )
        if status == 404:
            return PacsError(f"{asked}, it has none (404): see whether the address of its DICOMweb services is right.")
        tried = f"tried {self._attempts} times; what was fetched is kept, and the same command goes on with the rest."
        if status is not None:
            return PacsError(f"{asked}, it answered {status}" + (f", {tried}" if status in PASSING else "."))
        if is_untrusted(error):
            return PacsError(f"{asked}: its certificate is not trusted; name the file of its authority by --ca.")
        return PacsError(f"{asked}: {in_words(error)}, {tried}")

    def _nonsense(self, what: str) -> PacsError:
        return PacsError(f"{self.host}: asked for {what}, it sent no DICOM; see whether the address is right.")


def is_uid(text: str) -> bool:
    """Whether a text is a UID, and may stand in an address and in the name of a file."""
    return _UID.fullmatch(text) is not None and len(text) <= 64


def _value(record: object, key: str) -> Any:
    """The first value of an attribute in DICOM JSON; None where there is none."""
    element = record.get(key) if isinstance(record, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    first = values[0] if isinstance(values, list) and values else None
    return first if isinstance(first, str | int | float) else None


def _number(record: Record, key: str) -> int | None:
    value = _value(record, key)
    try:
        return None if value is None else int(str(value))
    except ValueError:
        return None


def _refusal(response: Response | None) -> Dataset:
    """What a refusal says of each object; nothing where it is no DICOM JSON."""
    try:
        return Dataset() if response is None else Dataset.from_json(response.json())
    except damaged():  # a JSONDecodeError of requests is a ValueError
        return Dataset()


def _says(item: Dataset, uid: str) -> bool:
    return bool(item.get("ReferencedSOPInstanceUID") == uid)


def _alike(code: int, reason: int) -> bool:
    """Whether a reason is of a kind; from A700 on the last digits say more than the standard does."""
    if code < 0xA000:
        return code == reason
    return code >> 12 == reason >> 12 if code == 0xC000 else code >> 8 == reason >> 8
