"""Question 4, DCGAN and WGAN-GP, for use from one's own code: `q4_wgan.generate("wgan", seeds=[7, 8])`."""

from .sampling import generate

__all__ = ["generate"]
