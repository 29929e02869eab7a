"""A release as a MONAI bundle: what MONAI's own software needs to run it, without Perdure.

configs/metadata.json    what goes in and comes out (MONAI Bundle Specification)
configs/inference.json   from files to files, for `python -m monai.bundle run`
models/model.pt          a state dict: tensors by name, nothing else
scripts/                 the input contract as transforms
docs/README.md, docs/release.json, LICENSE
"""

from __future__ import annotations

import inspect
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from perdure.data import geometry, intensity
from perdure.evaluation import Predictor
from perdure.evaluation.prediction import network_of, norm_domain
from perdure.evidence.exchange.agreement import LIMIT, Agreement
from perdure.evidence.exchange.bundle_inference import EVALUATED, inference_config
from perdure.evidence.exchange.bundle_run import compared
from perdure.evidence.exchange.bundle_text import LICENSE, readme
from perdure.models.nnunet import PREFIX
from perdure.release import Folder

if TYPE_CHECKING:
    from perdure.models import NetworkSpec
    from perdure.release import Release

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
SCRIPTS = "scripts.transforms"
OURS = "perdure.evidence.exchange.bundle_transforms"
RELEASE = Path("docs/release.json")


def export_bundle(
    release: Release,
    out: Path,
    *,
    domain: str | None = None,
    images: Sequence[Path] = (),
    limit: float = LIMIT,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Writes a release as a MONAI bundle, once its steps give the same labels from file to file.

    Args:
        release: what is written.
        out: the folder; nothing is overwritten.
        domain: whose batch norm, of a release that keeps one a domain.
        images: files on which the labels are compared; made-up ones without any.
        limit: the largest share of labels that may differ.
        progress: told how many of how many images are compared.

    Raises:
        FileExistsError: if `out` is there.
        EvaluationError: if more labels differ, or `domain` is none that the release keeps.
        NetworkError: if the network has an argument that MONAI would evaluate.
    """
    one = Predictor(release, "cpu", norm_domain(release, domain))
    config = inference_config(release, one.multiple, SCRIPTS)
    with Folder.being_written(out) as folder:
        for name in ("configs", "models", "docs", "scripts"):
            (folder / name).mkdir()
        _write(folder / "configs" / "metadata.json", metadata(release))
        _write(folder / "configs" / "inference.json", config)
        network = network_of(release, norm_domain(release, domain))
        state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        saved = io.BytesIO()  # because torch itself, on a full disk, says neither that nor which file
        torch.save(state, saved)
        (folder / "models" / "model.pt").write_bytes(saved.getbuffer())
        for name, text in _scripts().items():
            (folder / "scripts" / name).write_text(text, encoding="utf-8")
        identity = release.identity.model_dump(mode="json")
        _write(folder / RELEASE, {"name": release.name, "domain": domain or "", **identity})
        here = inference_config(release, one.multiple, OURS)
        with tempfile.TemporaryDirectory(prefix="perdure-") as made_up:
            found = compared(one, here, folder / "models" / "model.pt", images, Path(made_up), progress)
        found.check(limit, "The bundle")
        (folder / "docs" / "README.md").write_text(readme(release, domain, found), encoding="utf-8")
        (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _scripts() -> dict[str, str]:
    """Our own files, as they import each other inside a bundle."""
    from perdure.evidence.exchange import bundle_transforms

    sources = {"transforms.py": bundle_transforms, "geometry.py": geometry, "intensity.py": intensity}
    texts = {name: inspect.getsource(module).replace("perdure.data.", "scripts.") for name, module in sources.items()}
    return {"__init__.py": '"""The input contract as transforms; copied from Perdure."""\n', **texts}


def metadata(release: Release) -> dict[str, Any]:
    """What a bundle says of itself."""
    contract = release.contract
    names = {str(i): plain(one.name) for i, one in enumerate(contract.structures)}
    channels = {str(i): "image" if contract.channels == 1 else f"channel {i}" for i in range(contract.channels)}
    scaled = contract.intensity
    is_unit = scaled.scaling in ("robust", "format") and scaled.mean is None and scaled.std is None
    segments = contract.task == "segmentation"
    modality = plain(contract.modality) or "n/a"
    size = list(contract.size)
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"release {plain(release.name)}, {release.id}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "scipy")}
        | {"pytorch-ignite": "0.5.0", **_more_packages(release.identity.network)},
        "name": plain(release.name) or "release",
        "task": f"{contract.task} of {', '.join(list(names.values())[1 if segments else 0 :])}",
        "description": f"Release {release.id} of Perdure, after {', '.join(_learnt(release))}.",
        "authors": "not recorded in the release",
        "copyright": "not recorded in the release",
        "intended_use": "Research; not a medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield" if scaled.scaling == "window" else "magnitude",
                    "modality": modality,
                    "num_channels": contract.channels,
                    "spatial_shape": size,
                    "dtype": "float32",
                    "value_range": [0, 1] if is_unit else [],
                    "is_patch_data": contract.spatial_dims == 3 and segments,
                    "channel_def": channels,
                }
            },
            "outputs": {
                "pred": {
                    "type": "image" if segments else "probabilities",
                    "format": "labels" if segments else "classes",
                    "modality": modality,
                    "num_channels": contract.classes,
                    "spatial_shape": size if segments else [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": contract.spatial_dims == 3 and segments,
                    "channel_def": names,
                }
            },
        },
    }


def _learnt(release: Release) -> list[str]:
    return [plain(seen.domain) for seen in release.identity.domains]


def _more_packages(network: NetworkSpec) -> dict[str, str]:
    if network.factory == "quicknat":
        return {"perdure": version("perdure")}
    return {"dynamic-network-architectures": "0.3.1"} if network.factory.startswith(PREFIX) else {}


def plain(text: str) -> str:
    """A text that MONAI takes for no expression."""
    return f"'{text}'" if text.startswith(EVALUATED) else text
