"""What people write of a modality, and what a PACS calls it."""

from __future__ import annotations

import pytest

from perdure.data.dicom.modalities import IMAGES, modalities_of


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("T1-weighted MRI, NIfTI, 8 bit, 2 mm isotropic", ("MR",)),
        ("MR", ("MR",)),
        ("cardiac magnetic resonance", ("MR",)),
        ("CT", ("CT",)),
        ("computed tomography of the chest", ("CT",)),
        ("PET/CT", ("CT", "PT")),
        ("digital mammography", ("MG",)),
        ("mammogram, grey, 8 bit, 224x224", ("MG",)),
        ("radiograph, grey, 8 bit, 128x128", ("CR", "DX")),
        ("chest x-ray", ("CR", "DX")),
        ("fundus photograph, RGB, 8 bit", ("OP",)),
        # what importers write: the channels of nnU-Net and the Decathlon, the suffix of BIDS, DICOM's own code
        *((text, ("MR",)) for text in ("T1", "T2", "T1w", "T2w", "T2star", "T1ce", "FLAIR", "PD", "PDw", "ADC", "DWI")),
        *((text, ("MR",)) for text in ("bold", "T1map", "t1_mprage", "FLAIR, T1w, t1gd, T2w")),
        *((text, ("CT",)) for text in ("CBCT", "non-contrast CT", "CTA", "contrast_CT")),
        *((text, ("MG",)) for text in ("MG", "FFDM")),
        *((text, ("CR", "DX")) for text in ("DX", "CR", "CXR", "X ray")),
        ("CT of the vertebrae T11 and T12", ("CT",)),
        ("OCT", IMAGES),
        ("noNorm", IMAGES),
        ("", IMAGES),
        ("synthetic", IMAGES),
        ("octet mrs spectra", IMAGES),
    ],
)
def test_a_text_names_the_modalities_that_it_speaks_of(text: str, codes: tuple[str, ...]) -> None:
    assert modalities_of(text) == codes
