"""`perdure import`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from perdure.cli import options
from perdure.cli.console import SOME_FAILED, counting, fail, note, progress_bar, show
from perdure.cli.requests import named_values
from perdure.errors import ConfigurationError

if TYPE_CHECKING:
    from perdure.data.importing import Imported
    from perdure.data.importing.found import Found

Layout: TypeAlias = Literal["nnunet", "msd", "bids", "dicom"]

_OWN = {
    "nnunet": ("subject", "fold"),
    "msd": ("subject",),
    "bids": ("suffix", "derivative", "desc"),
    "dicom": ("modality", "description", "structure", "labels", "label-description", "own-labels", "classes"),
}
_NEW_SALT = (
    "made a new salt, {}: no pseudonym is that of an import with another salt, so a subject could be in train there "
    "and in test here. If there was a salt before, restore it and import again."
)
_SUBJECT, _BIDS, _DICOM = "nnU-Net and Decathlon", "BIDS", "DICOM"


def import_(
    layout: Annotated[Layout, typer.Argument(help="What SRC is: nnunet, msd (Decathlon), bids or dicom.")],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder to import; nothing in it is changed.")],
    out: Annotated[Path, typer.Option("--out", help="The data folder to write; never overwritten.")],
    salt: Annotated[
        Path | None,
        typer.Option("--salt", help="File that pseudonyms depend on, made if missing; default: in ~/.config/perdure."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", help="One domain for all; default: proposed from scanner tags.")
    ] = None,
    domain_from: Annotated[
        list[str] | None,
        typer.Option("--domain-from", help="A tag that makes a domain: manufacturer, station ... Repeat."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            help="Pattern whose first group is the patient in a case's name; default: each case is one.",
            rich_help_panel=_SUBJECT,
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold", min=0, help="Fold of splits_final.json; default: the first, if it fits.", rich_help_panel=_SUBJECT
        ),
    ] = None,
    suffix: Annotated[
        str | None, typer.Option("--suffix", help="Of the images; default T1w.", rich_help_panel=_BIDS)
    ] = None,
    derivative: Annotated[
        str | None,
        typer.Option("--derivative", help="Folder in derivatives/ with the labels.", rich_help_panel=_BIDS),
    ] = None,
    desc: Annotated[
        str | None, typer.Option("--desc", help="The desc entity of the labels.", rich_help_panel=_BIDS)
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="Only series of this one, such as MR.", rich_help_panel=_DICOM)
    ] = None,
    description: Annotated[
        str | None,
        typer.Option("--description", help="Pattern in the SeriesDescription.", rich_help_panel=_DICOM),
    ] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option(
            "--structure",
            help="NAME=VALUE of a class. Repeat. Of SEG and RTSTRUCT all others are background, and the default is "
            "all; label maps need every value.",
            rich_help_panel=_DICOM,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder with label maps SERIESINSTANCEUID.nii.gz.", rich_help_panel=_DICOM),
    ] = None,
    label_description: Annotated[
        str | None,
        typer.Option(
            "--label-description",
            help="Only SEG and RTSTRUCT with this pattern in their SeriesDescription.",
            rich_help_panel=_DICOM,
        ),
    ] = None,
    own_labels: Annotated[
        bool,
        typer.Option("--own-labels", help="Takes SEGs that Perdure itself made as truth too.", rich_help_panel=_DICOM),
    ] = False,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="CSV with columns uid and class, to classify.", rich_help_panel=_DICOM),
    ] = None,
    seed: options.Seed = 0,
    config: options.Config = None,
    as_json: options.Json = False,
) -> None:
    """Makes a data folder of a folder in another layout; copies no image, and hides who is who.

    Example: perdure import dicom export --out data --salt private/salt --domain-from station
    """
    given = {
        "subject": _pattern("--subject", subject),
        "fold": fold,
        "suffix": suffix,
        "derivative": derivative,
        "desc": desc,
        "modality": modality,
        "description": _pattern("--description", description),
        "structure": structure,
        "labels": labels,
        "label-description": _pattern("--label-description", label_description),
        "own-labels": own_labels or None,
        "classes": classes,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    _check(layout, chosen, domain, domain_from)
    from perdure.data.importing.folder import check_places, imported
    from perdure.data.importing.salt import default_salt, opened_salt
    from perdure.release.folder import Folder

    kept = salt or default_salt()
    read = [source] if labels is None else [source, labels]
    check_places(out, *read)
    ways: dict[str, Any] = {} if domain_from is None else {"domain_from": tuple(domain_from)}
    with Folder.being_written(out) as folder:
        secret, is_new = opened_salt(kept, out, *read)
        if is_new:
            note(_NEW_SALT.format(kept))
        found = _found(layout, source, secret, chosen)
        made = imported(found, out, secret, domain=domain, seed=seed, **ways)
        made.write(folder)
    _show(made, out, kept, is_new, as_json)


# commands are called by their functions, and Python keeps this name to itself
import_.__name__ = "import"


def _found(layout: Layout, source: Path, salt: bytes, chosen: dict[str, Any]) -> Found:
    from perdure.data.importing import Chosen, find_bids, find_decathlon, find_dicom, find_nnunet

    if layout == "nnunet":
        return find_nnunet(source, **chosen)
    if layout == "msd":
        return find_decathlon(source, **chosen)
    if layout == "bids":
        return find_bids(source, **chosen)
    values = named_values("--structure", chosen.pop("structure", None), "left_kidney=1", {})
    if odd := [name for name, value in values.items() if not isinstance(value, int) or isinstance(value, bool)]:
        raise ConfigurationError(f"--structure {odd[0]}: its value must be a whole number, as in left_kidney=1.")
    names = {"labels": "label_maps", "label-description": "label_description", "own-labels": "own_labels"}
    wanted = Chosen(structures=values, **{names.get(name, name): value for name, value in chosen.items()})
    with progress_bar() as bar:
        return find_dicom(source, salt, wanted, counting(bar, "reading headers"))


def _check(layout: Layout, chosen: dict[str, Any], domain: str | None, domain_from: list[str] | None) -> None:
    others = [f"--{name}" for name in chosen if name not in _OWN[layout]]
    if others:
        takes = ", ".join(f"--{name}" for name in _OWN[layout])
        raise ConfigurationError(f"{', '.join(others)}: not for {layout}, which takes {takes}.")
    if domain is not None and domain_from is not None:
        raise ConfigurationError("--domain and --domain-from: one name for all, or one from tags; say one of them.")
    if {"classes"} < chosen.keys() & {"classes", "labels", "structure"}:
        raise ConfigurationError("--classes: is for a classification, --labels and --structure for a segmentation.")


def _pattern(option: str, text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise ConfigurationError(f"{option} {text}: is no regular expression: {error}.") from error


def _show(made: Imported, out: Path, salt: Path, is_new: bool, as_json: bool) -> None:
    subjects = len({row["subject"] for row in made.rows})
    record = {
        "out": str(out),
        "salt": str(salt),
        "new_salt": is_new,
        "subjects": subjects,
        "cases": len(made.rows),
        "domains": made.domains,
        "left_out": list(made.left_out),
        "structures": made.structures,
        "notes": list(made.notes),
        "failed": dict(made.failed),
    }
    lines = [f"{out}: {len(made.rows)} cases of {subjects} subjects"]
    lines += [f"  {name}: {of['subjects']} subjects, {of['cases']} cases" for name, of in made.domains.items()]
    if made.structures:
        first, *others = ((name, of["labels"], of["of"]) for name, of in made.structures.items())
        counts = [f"{first[0]} {first[1]} of {first[2]} labels", *(f"{name} {times}" for name, times, _ in others)]
        lines.append(f"structures: {', '.join(counts)}")
    lines += [f"not in the manifest: {what}" for what in made.left_out]
    show(record, as_json, *lines)
    for one in made.notes:
        note(one)
    note(f"pseudonyms depend on {salt}: keep it, and keep it apart from {out}.")
    if made.failed:
        reasons = "\n".join(f"{name}: {why}" for name, why in made.failed.items())
        raise fail(f"{len(made.failed)} not imported (which files, is in each list in {out}):\n{reasons}", SOME_FAILED)
