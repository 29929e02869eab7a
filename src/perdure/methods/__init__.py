"""Which importance, which form, which batch-norm policy? One file a published name."""

from perdure.methods.finetune import finetune
from perdure.methods.joint import joint
from perdure.methods.mas_lr import mas_lr
from perdure.methods.method import Method
from perdure.methods.registry import built_in, method_named, registered

__all__ = ["Method", "built_in", "finetune", "joint", "mas_lr", "method_named", "registered"]
