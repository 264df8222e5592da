"""Methods of anomaly detection: one file each, behind one interface."""

from monai_sagan.methods.method import Computing, Detection, Method, Stage
from monai_sagan.methods.registry import METHODS as METHODS
from monai_sagan.methods.registry import describe_method as describe_method
from monai_sagan.methods.registry import find_method, resolve_settings
from monai_sagan.methods.registry import make_network as make_network

__all__ = ["Computing", "Detection", "Method", "Stage", "find_method", "resolve_settings"]
