"""What can be trained: each method in a file of its own, behind one face."""

from monai_sagan.methods.method import Computing, Detection, Method, Stage
from monai_sagan.methods.registry import METHODS, describe_method, find_method, make_network, resolve_settings

__all__ = [
    "METHODS",
    "Computing",
    "Detection",
    "Method",
    "Stage",
    "describe_method",
    "find_method",
    "make_network",
    "resolve_settings",
]
