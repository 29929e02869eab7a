"""Small folders in other people's layouts, with labels that a network learns something of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dicoms import write_segmentation, write_series

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (18, 20, 16)


def head(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A noisy ball with a core, and its labels 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    distance = np.sqrt((at**2).sum(0)) / rng.uniform(0.75, 0.9)
    labels = (distance < 1).astype(np.uint8) + (distance < 0.5)
    image = np.array([20, 200, 500])[labels] + rng.normal(0, 10, SHAPE)
    return image.clip(0).astype(np.uint16), labels.astype(np.uint8)


def save(path: Path, volume: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> None:
    """Writes a NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume, affine), path)


def write_nnunet(folder: Path, *, version: int = 2, cases: int = 5, test: int = 2, labelled_test: int = 1) -> Path:
    """A raw folder of nnU-Net: cases `p0_a`, `p0_b`, `p1_a` ..., two a patient."""
    names = [f"p{i // 2}_{'ab'[i % 2]}" for i in range(cases)]
    for number, name in enumerate([*names, *(f"t{i}_a" for i in range(test))]):
        image, labels = head(number)
        which = "Tr" if number < cases else "Ts"
        save(folder / f"images{which}" / f"{name}_0000.nii.gz", image)
        if number < cases + labelled_test:
            save(folder / f"labels{which}" / f"{name}.nii.gz", labels)
    about: dict[str, object] = {"name": "Heads", "licence": "CC0", "reference": "nobody", "numTraining": cases}
    if version == 2:
        about |= {"channel_names": {"0": "T1"}, "labels": {"background": 0, "ball": 1, "core": 2}}
        about["file_ending"] = ".nii.gz"
    else:
        about |= {"modality": {"0": "T1"}, "labels": {"0": "background", "1": "ball", "2": "core"}}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def write_decathlon(folder: Path, cases: int = 4) -> Path:
    """A folder of the Decathlon."""
    pairs = []
    for number in range(cases):
        image, labels = head(number)
        save(folder / "imagesTr" / f"head_{number:03}.nii.gz", image)
        save(folder / "labelsTr" / f"head_{number:03}.nii.gz", labels)
        names = {"image": "imagesTr", "label": "labelsTr"}
        pairs.append({key: f"./{where}/head_{number:03}.nii.gz" for key, where in names.items()})
    about = {
        "name": "Heads",
        "description": "Balls with a core",
        "reference": "nobody",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "ball", "2": "core"},
        "training": pairs,
        "test": ["./imagesTs/head_9.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def write_bids(folder: Path, subjects: Sequence[str] = ("01", "02", "03", "04")) -> Path:
    """A BIDS dataset of two scanners, two sessions a subject, segmentations in derivatives/hand."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(
        json.dumps({"Name": "Heads", "BIDSVersion": "1.9", "License": "CC0"})
    )
    rows = ["participant_id\tage\tsex\tgroup", *(f"sub-{subject}\t4{i}\tF\tn/a" for i, subject in enumerate(subjects))]
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "T1w.json").write_text(json.dumps({"Manufacturer": "Acme", "MagneticFieldStrength": 1.5}))
    hand = folder / "derivatives" / "hand"
    hand.mkdir(parents=True)
    (hand / "dseg.tsv").write_text("index\tname\n0\tBackground\n1\tBall\n2\tCore\n")
    for number, subject in enumerate(subjects):
        for session in ("1", "2"):
            stem, where = f"sub-{subject}_ses-{session}", Path(f"sub-{subject}", f"ses-{session}", "anat")
            image, labels = head(number * 2 + int(session))
            save(folder / where / f"{stem}_T1w.nii.gz", image)
            if number % 2:
                sidecar = {"MagneticFieldStrength": 3, "StationName": "MR East"}
                (folder / where / f"{stem}_T1w.json").write_text(json.dumps(sidecar))
            save(hand / where / f"{stem}_space-orig_dseg.nii.gz", labels)
    return folder


def write_export(folder: Path, patients: Sequence[str] = ("MRN-1", "MRN-2", "MRN-3", "MRN-4")) -> Path:
    """DICOM as a PACS exports it: names in paths, a SEG for each series, several series in one folder."""
    for number, patient in enumerate(patients):
        image, labels = head(number)
        who = {"PatientID": patient, "PatientName": f"Doe^Jane{number}", "SeriesDescription": "t1_mprage"}
        scanner = {} if number % 2 else {"StationName": "MR-WEST", "MagneticFieldStrength": "1.494"}
        where = folder / f"DOE_JANE{number}_{patient}" / "DICOM"
        files = write_series(where, image, AFFINE, more={**who, **scanner}, names=[f"IM{k}" for k in range(SHAPE[2])])
        write_segmentation(where / "IM900", files, labels, {1: "Ball", 2: "Core"})
        localizer = {**who, **scanner, "SeriesDescription": "localizer"}
        write_series(where, image[:, :, :3], AFFINE[[0, 2, 1, 3]], more=localizer, names=["IM901", "IM902", "IM903"])
    return folder
