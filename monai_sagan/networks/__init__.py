"""SAGAN's networks."""

from monai_sagan.networks.discriminator import SaganDiscriminator
from monai_sagan.networks.generator import SaganGenerator
from monai_sagan.networks.official_weights import load_official_weights

__all__ = ["SaganDiscriminator", "SaganGenerator", "load_official_weights"]
