"""Where training runs, and in which precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision: TypeAlias = Literal["auto", "32-true", "bf16-mixed"]


@dataclass(frozen=True)
class Machine:
    """Where training runs.

    Args:
        device: `cpu` or `cuda`.
        devices: how many processes or cards share each batch.
        precision: `32-true`, or `bf16-mixed` for mixed precision: weights, their steps, importance and validation in
            single precision, convolutions and products of training in half. `auto` takes that where the machine
            computes it in hardware. Releases say what was taken, and a run goes on in no other.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    devices: int = 1
    precision: Precision = "auto"

    def resolved(self) -> Machine:
        """The same with the precision that `auto` means on it."""
        if self.precision != "auto":
            return self
        return replace(self, precision="bf16-mixed" if has_bf16(self.device) else "32-true")

    def fabric(self) -> Fabric:
        """Lightning Fabric for it; several processes are spawned."""
        from lightning_fabric import Fabric

        several = {"strategy": "ddp_spawn"} if self.devices > 1 else {}
        precision = self.resolved().precision
        return Fabric(accelerator=self.device, devices=self.devices, precision=precision, **several)  # type: ignore[arg-type]


def has_bf16(device: Literal["cpu", "cuda"]) -> bool:
    """Whether a device multiplies in bf16 itself; where it is emulated, it is slower than single precision."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # torch before 2.10 does not say what the processor has
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
