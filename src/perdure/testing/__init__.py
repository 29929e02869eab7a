"""Which properties must any importance, regularizer, method or network have? For your tests as for ours."""

from perdure.testing.claims import Claims
from perdure.testing.domain import TinyDomain, tiny_domain, tiny_network
from perdure.testing.importance import IMPORTANCE, check_importance
from perdure.testing.method import METHOD, check_method
from perdure.testing.network import NETWORK, check_network
from perdure.testing.regularizer import REGULARIZER, check_regularizer

__all__ = [
    "IMPORTANCE",
    "METHOD",
    "NETWORK",
    "REGULARIZER",
    "Claims",
    "TinyDomain",
    "check_importance",
    "check_method",
    "check_network",
    "check_regularizer",
    "tiny_domain",
    "tiny_network",
]
