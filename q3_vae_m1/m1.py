"""M1, the latent-feature discriminative model of Kingma et al. 2014. [1] and so on: README.md's deviations.

    p(z) = N(z | 0, I)     p_theta(x|z) = f(x; z, theta)     q_phi(z|x) = N(z | mu_phi(x), diag(sigma_phi^2(x)))  (1, 3)

Both networks are multilayer perceptrons with two hidden layers of 600 softplus units; z has 50 dimensions (section
4.1). Training maximises the ELBO of eq. 5,

    log p_theta(x) >= E_q[log p_theta(x|z)] - KL(q_phi(z|x) || p_theta(z)) = -J(x),

with one sample of z per image and the KL term in closed form. The features for the classifier are the means mu_phi(x).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

LIKELIHOODS = ["gaussian", "bernoulli"]


class M1(nn.Module):
    """The variational auto-encoder.

    likelihood: "bernoulli", the paper's, for binarised images; or "gaussian" with the decoder's sigmoid output as its
    mean and one variance for all pixels, learned with the weights, for grey images [1]. Sizes are numbers of units.
    """

    def __init__(self, likelihood: str = "gaussian", pixels: int = 784, hidden: int = 600, latent: int = 50):
        super().__init__()
        self.likelihood = likelihood
        self.sizes = {"pixels": pixels, "hidden": hidden, "latent": latent}
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(),
                                     nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(),
                                     nn.Linear(hidden, pixels))
        if likelihood == "gaussian":
            self.log_variance = nn.Parameter(torch.tensor(-4.0))  # log of sigma_x^2, pixels in [0, 1]

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q_phi(z|x): x (B, 784) in [0, 1] -> mean and log variance, (B, 50) float32 each."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """z (B, 50) -> logits (B, 784) float32; their sigmoid is the mean of p_theta(x|z)."""
        return self.decoder(z).float()

    def log_likelihood(self, x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """log p_theta(x|z) in nats, summed over the pixels: (B, 784), (B, 784) -> (B,)."""
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        squared = (torch.sigmoid(logits) - x).square().sum(1)
        pixels = x.shape[1]
        return -0.5 * (squared * torch.exp(-self.log_variance) + pixels * (self.log_variance + math.log(2 * math.pi)))

    def elbo(self, x: torch.Tensor, seen: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of eq. 5 with one sample z = mu + sigma * noise (Algorithm 1).

        x: (B, 784) the images to be explained. seen: (B, 784) what the encoder sees: x, or a distorted copy of it [3].
        noise: (B, 50) standard normal. Returns log p_theta(x|z) and KL(q_phi(z|seen) || p(z)), (B,) nats each.
        """
        mean, log_variance = self.posterior(seen)
        z = mean + torch.exp(0.5 * log_variance) * noise
        return self.log_likelihood(x, self.decode(z)), kl_to_prior(mean, log_variance)


def kl_to_prior(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, diag(exp(log_variance))) || N(0, I)) in nats, closed form: (B, 50), (B, 50) -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
