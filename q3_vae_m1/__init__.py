"""Question 3, M1's features, for use from one's own code: `q3_vae_m1.features(images, dataset="fashion")`."""

from .features import features

__all__ = ["features"]
