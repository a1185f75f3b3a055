"""The objectives: DCGAN (non-saturating), WGAN-GP (Gulrajani et al. 2017) and WGAN with weight clipping.

A critic loss takes (critic, real, fake, epsilon) and returns (loss to minimise, {name: part of it}); a generator loss
takes (critic, fake). Images are (n, 1, 28, 28), scores (n,); everything returned is a float32 scalar tensor.
"""

from dataclasses import dataclass
from typing import Callable

import torch
from torch.nn.functional import softplus

LAMBDA = 10.0  # Algorithm 1
CLIP = 0.01  # Arjovsky et al. 2017, Algorithm 1


def dcgan_critic_loss(critic, real, fake, epsilon=None):
    """-E[log D(x)] - E[log(1 - D(G(z)))] with D = sigmoid(score). Real and fake are batches of their own for the
    batch norm (Radford et al. 2016)."""
    loss = softplus(-critic(real)).mean() + softplus(critic(fake)).mean()
    return loss, {}


def dcgan_generator_loss(critic, fake):
    """-E[log D(G(z))]: the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-critic(fake)).mean()


def wgan_clip_critic_loss(critic, real, fake, epsilon=None):
    """E[D(G(z))] - E[D(x)]; `clip_weights` after the optimizer's step keeps D Lipschitz."""
    loss = critic(fake).mean() - critic(real).mean()
    return loss, {"wasserstein": -loss.detach()}


def wgan_gp_critic_loss(critic, real, fake, epsilon):
    """E[D(x~)] - E[D(x)] + lambda E[(||grad D(x^)||_2 - 1)^2],  x^ = epsilon x + (1 - epsilon) x~  (equation 3).

    Real and fake go through the critic as one batch: without batch norm images do not see each other.
    """
    score = critic(torch.cat((real, fake)))
    wasserstein = score[:len(real)].mean() - score[len(real):].mean()
    penalty = gradient_penalty(critic, real, fake, epsilon)
    return LAMBDA * penalty - wasserstein, {"wasserstein": wasserstein.detach(), "penalty": penalty.detach()}


def wgan_generator_loss(critic, fake):
    """-E[D(G(z))]."""
    return -critic(fake).mean()


def gradient_penalty(critic, real, fake, epsilon):
    """E[(||grad D(x^)||_2 - 1)^2], without lambda: one epsilon (n, 1, 1, 1) per example, the norm over all its pixels.

    It is taken on the first n examples of the batch, by default all of them. [12]
    """
    n = len(epsilon)
    mixed = epsilon * real[:n] + (1 - epsilon) * fake[:n].to(real.dtype)
    gradient = critic.input_gradient(mixed) if critic.input_gradient else double_backward(critic, mixed)
    return (gradient.to(real.dtype).flatten(1).norm(dim=1) - 1).square().mean()  # the norm in full precision


def double_backward(critic, x):
    """The gradient of every score by its own image through autograd, for any critic: (n, 1, 28, 28), with a graph."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]


@torch.no_grad()
def clip_weights(critic):
    """Clamp every parameter to [-0.01, 0.01] (Arjovsky et al. 2017, Algorithm 1)."""
    for parameter in critic.parameters():
        parameter.clamp_(-CLIP, CLIP)


@dataclass(frozen=True)
class Objective:
    critic_loss: Callable
    generator_loss: Callable
    critic_norm: str | None  # of the critic: 'batch' or none
    critic_steps: int  # per generator step
    betas: tuple | None  # of Adam; None: RMSProp
    parts: tuple = ()  # what the critic loss reports besides itself
    clip: bool = False


OBJECTIVES = {
    "dcgan": Objective(dcgan_critic_loss, dcgan_generator_loss, "batch", 1, (0.5, 0.999)),  # Radford et al. 2016
    "wgan-gp": Objective(wgan_gp_critic_loss, wgan_generator_loss, None, 5, (0.5, 0.9),  # gan_cifar.py
                         parts=("wasserstein", "penalty")),
    "wgan-clip": Objective(wgan_clip_critic_loss, wgan_generator_loss, "batch", 5, None,  # Arjovsky et al. 2017
                           parts=("wasserstein",), clip=True),
}
