"""What a bundle tells a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.evidence.exchange.agreement import Agreement
    from perdure.release import Release

LICENSE = """The files under `scripts` are parts of Perdure, licensed under the Apache License, Version 2.0
(https://www.apache.org/licenses/LICENSE-2.0), and come without warranty of any kind.

The licence of the weights under `models` is for their owner to state here. They were trained on data of patients, whose
terms of use may bind them.
"""


def readme(release: Release, domain: str | None, found: Agreement) -> str:
    """How the bundle is run, what it is, and how far it agrees with the release."""
    contract = release.contract
    learnt = ", ".join(seen.domain for seen in release.identity.domains)
    own = f" Its batch norm is that of the domain {domain}." if release.memory.norms else ""
    needed = {"quicknat": " and perdure, which has the network"}.get(release.identity.network.factory, "")
    structures = "\n".join(f"| {i} | {one.name} | {one.values[0]} |" for i, one in enumerate(contract.structures))
    what = "label maps on each image's own grid" if contract.task == "segmentation" else "`predictions.csv`"
    return f"""# {release.name}

Release `{release.id}` of Perdure as a MONAI bundle: {contract.task}, after {learnt}.{own}

    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir IMAGES --output_dir OUT

gives {what}. It needs MONAI with pytorch-ignite, fire, nibabel and scipy{needed}. `scripts` holds the input contract
(orientation, spacing, intensities) as transforms, and `docs/release.json` all that the release says of itself, its
lineage included; what later updates need to remember earlier domains is not here. Keep the release for that.

When it was written: {found}.

| output | structure | label value |
| --- | --- | --- |
{structures}

The network's outputs are logits. This is research software, not a medical device.
"""
