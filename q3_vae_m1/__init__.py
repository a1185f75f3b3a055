"""Question 3, M1's VAE, for use from one's own code: `q3_vae_m1.features(images, dataset="fashion")`."""

from .features import decode, features, reconstruct, sample

__all__ = ["decode", "features", "reconstruct", "sample"]
