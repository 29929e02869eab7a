"""Which importance, which form, which batch-norm policy? One file a published name."""

from perdure.methods.bn_only import bn_only
from perdure.methods.composition import composed
from perdure.methods.default import default_method
from perdure.methods.dropout import dropout
from perdure.methods.dsbn import dsbn
from perdure.methods.ewc import ewc
from perdure.methods.ewc_bn import ewc_bn
from perdure.methods.ewc_online import ewc_online
from perdure.methods.finetune import finetune
from perdure.methods.finetune_low_lr import finetune_low_lr
from perdure.methods.finetune_lr_matched import finetune_lr_matched
from perdure.methods.joint import joint
from perdure.methods.l2 import l2
from perdure.methods.l2_sp import l2_sp
from perdure.methods.lwf import lwf
from perdure.methods.mas import mas
from perdure.methods.mas_fix import mas_fix
from perdure.methods.mas_fix_random import mas_fix_random
from perdure.methods.mas_lr import mas_lr
from perdure.methods.mas_lr_dropout import mas_lr_dropout
from perdure.methods.measures import measure_named, words_for
from perdure.methods.method import Method, said
from perdure.methods.no_update import no_update
from perdure.methods.registry import built_in, method_named, registered
from perdure.methods.replay import replay
from perdure.methods.si import si

__all__ = [
    "Method",
    "bn_only",
    "built_in",
    "composed",
    "default_method",
    "dropout",
    "dsbn",
    "ewc",
    "ewc_bn",
    "ewc_online",
    "finetune",
    "finetune_low_lr",
    "finetune_lr_matched",
    "joint",
    "l2",
    "l2_sp",
    "lwf",
    "mas",
    "mas_fix",
    "mas_fix_random",
    "mas_lr",
    "mas_lr_dropout",
    "measure_named",
    "method_named",
    "no_update",
    "registered",
    "replay",
    "said",
    "si",
    "words_for",
]
