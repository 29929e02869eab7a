"""From options to a PACS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from perdure.data.dicom.web import Pacs
    from perdure.evaluation.study import SegmentedStudy

TOKEN = "PERDURE_DICOMWEB_TOKEN"  # noqa: S105 - the name of the variable
_PANEL = "PACS"

Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dicomweb", help="Address of a PACS's DICOMweb services, in place of --input.", rich_help_panel=_PANEL
    ),
]
Study: TypeAlias = Annotated[str | None, typer.Option("--study", help="Study Instance UID.", rich_help_panel=_PANEL)]
Series: TypeAlias = Annotated[
    str | None,
    typer.Option("--series", help="Series Instance UID; where only one fits, it is found.", rich_help_panel=_PANEL),
]
Store: TypeAlias = Annotated[
    bool, typer.Option("--store/--no-store", help="Store the segmentation in the PACS.", rich_help_panel=_PANEL)
]
KeepFetched: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-fetched", help="Leave what was fetched in --out (they are patient data).", rich_help_panel=_PANEL
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with the token, one line; the environment may hold it too (docs/pacs.md).",
        rich_help_panel=_PANEL,
    ),
]
Authority: TypeAlias = Annotated[
    Path | None,
    typer.Option("--ca", help="File of the authority that signed the PACS's certificate.", rich_help_panel=_PANEL),
]
ClientCertificate: TypeAlias = Annotated[
    Path | None,
    typer.Option("--client-cert", help="File of the certificate by which the PACS knows us.", rich_help_panel=_PANEL),
]
ClientKey: TypeAlias = Annotated[
    Path | None, typer.Option("--client-key", help="File of its private key.", rich_help_panel=_PANEL)
]
Attempts: TypeAlias = Annotated[
    int, typer.Option("--attempts", min=1, help="How often a request is sent at most.", rich_help_panel=_PANEL)
]
Timeout: TypeAlias = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="Seconds without an answer that count as failure.", rich_help_panel=_PANEL),
]


def check_way_in(
    source: Path | None, address: str | None, study: str | None, *, match: str | None, form: str | None
) -> None:
    """Passes if the options say one way in, and what it takes.

    Raises:
        ConfigurationError: if not.
    """
    if (source is None) == (address is None):
        raise ConfigurationError("Say where the images are: by --input, or by --dicomweb and --study; one of the two.")
    if (address is None) != (study is None):
        raise ConfigurationError("--dicomweb and --study go together.")
    if address is not None and match is not None:
        raise ConfigurationError("--match: for --input; with --dicomweb name the series by --series.")
    if address is not None and form not in (None, "dicom-seg"):
        raise ConfigurationError(f"--format {form}: for --input; a PACS gets dicom-seg.")


def opened_pacs(
    address: str,
    *,
    token_file: Path | None,
    authority: Path | None,
    certificate: Path | None,
    key: Path | None,
    attempts: int,
    timeout: float,
) -> Pacs:
    """The PACS that the options say; the token comes from a file or the environment, never from the command line.

    Raises:
        ConfigurationError: an option cannot be right, or the extra is not installed.
    """
    try:
        from perdure.data.dicom.access import Access
        from perdure.data.dicom.web import Pacs
    except ModuleNotFoundError as error:
        raise ConfigurationError('--dicomweb takes the extra "dicom": pip install "perdure[dicom]".') from error
    access = Access(_token(token_file), authority, certificate, key)
    return Pacs(address, access, attempts=attempts, timeout=timeout)


def record_of(done: SegmentedStudy) -> dict[str, Any]:
    """What became of a study, for machines."""
    return {"series": done.series, "written": [str(file) for file in done.files], "stored": list(done.stored)}


def told(done: SegmentedStudy) -> list[str]:
    """What became of a study, a line a segmentation."""
    stored = done.stored or ("not sent to the PACS",) * len(done.files)
    return [f"{file}: {what}" for file, what in zip(done.files, stored, strict=True)]


def _token(file: Path | None) -> str | None:
    if file is None:
        text, where = os.environ.get(TOKEN, ""), TOKEN
        if not text:
            return None
    else:
        try:
            text, where = file.read_text(encoding="ascii"), f"--token-file {file}"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--token-file {file}: cannot be read as a line of ASCII.") from error
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"{where}: must hold one line, the token.")
    return token
