"""Simulated MR scanners and subjects, so that everything runs without network or patient data.

`write_dataset` makes a data folder from the MNI152 brain that nilearn ships, or from any label map: a `Deformation`
makes subjects, a `Scanner` images them. Simulated sites show that a pipeline works and how a method behaves; they are
no evidence about real scanners.

    from perdure.data.phantom import SCANNERS, TissueContrast, write_dataset

    write_dataset("brains")                                         # four scanners, MNI152 tissues
    contrast = TissueContrast.from_table("tissues.csv")             # or any label maps
    scanners = [scanner.seeing(contrast) for scanner in SCANNERS]
    write_dataset("sites", labels=["a.nii.gz", "b.nii.gz"], structures={"thalamus": (10, 49)}, scanners=scanners)
"""

from perdure.data.phantom.anatomy import TISSUES, Anatomy, mni_tissues
from perdure.data.phantom.dataset import write_dataset
from perdure.data.phantom.deformation import Deformation
from perdure.data.phantom.physics import (
    BiasField,
    Effect,
    Gamma,
    GibbsRinging,
    PointSpread,
    RicianNoise,
    Tissue,
    TissueContrast,
)
from perdure.data.phantom.recipe import BASE, LATER, About
from perdure.data.phantom.scanner import SCANNERS, Scanner

__all__ = [
    "BASE",
    "LATER",
    "SCANNERS",
    "TISSUES",
    "About",
    "Anatomy",
    "BiasField",
    "Deformation",
    "Effect",
    "Gamma",
    "GibbsRinging",
    "PointSpread",
    "RicianNoise",
    "Scanner",
    "Tissue",
    "TissueContrast",
    "mni_tissues",
    "write_dataset",
]
