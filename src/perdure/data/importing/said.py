"""What one DICOM file says of where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.data.dicom.opening import no_image

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "field_strength": "MagneticFieldStrength",
    "station": "StationName",
    "institution": "InstitutionName",
}
_OWN_CLASS = "(to take one, name it or its series in --classes)"


@dataclass(frozen=True)
class Said:
    """What a file says of where it belongs; `uid` is its own, `patient` is issuer and PatientID.

    `byproduct` says of an image why the class of a patient or study is not its own; "" of what was taken to be read.
    """

    modality: str
    uid: str
    series: str
    study: str
    patient: tuple[str, str]
    description: str
    tags: Mapping[str, str]
    no_image: bool
    byproduct: str

    @classmethod
    def of(cls, dataset: Dataset) -> Said:
        """Reads the elements of a dataset."""

        def text(keyword: str) -> str:
            return str(dataset.get(keyword) or "")

        modality = text("Modality")
        tags = {tag: text(keyword) for tag, keyword in _TAGS.items() if text(keyword)}
        return cls(
            modality=modality,
            uid=text("SOPInstanceUID"),
            series=text("SeriesInstanceUID"),
            study=text("StudyInstanceUID"),
            # spaces around them mean nothing in DICOM
            patient=(text("IssuerOfPatientID").strip(), text("PatientID").strip()),
            description=text("SeriesDescription"),
            tags={**tags, "modality": modality},
            no_image=no_image(dataset),
            byproduct=_byproduct(text("PresentationIntentType"), str(getattr(dataset.get("SOPClassUID"), "name", ""))),
        )


def _byproduct(intent: str, kind: str) -> str:
    if intent == "FOR PROCESSING" or "For Processing" in kind:
        return f"raw image(s), for processing {_OWN_CLASS}"
    return f"secondary capture(s), of a screen or the like {_OWN_CLASS}" if "Secondary Capture" in kind else ""
