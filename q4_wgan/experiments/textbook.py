"""WGAN-GP as most public code has it, with this room's networks: what ours is compared with in speed and in result.

float32, torch's own convolutions, a DataLoader with ToTensor, separate passes over real, generated and interpolated
images, a generator pass for every critic step, double backward. The settings are those of the authors' gan_cifar.py:
Adam at 1e-4 with betas 0.5 and 0.9, constant, and the last weights instead of their average.
"""

import time

import torch
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_tensor

from .. import networks
from ..objectives import LAMBDA, OBJECTIVES

SETTINGS = {"learning_rate": 1e-4}


def plain(network):
    """The network with torch's own transposed convolutions and the default memory format."""
    for module in network.modules():
        if isinstance(module, networks.Up):
            module.forward = torch.nn.ConvTranspose2d.forward.__get__(module)
    return network.to(memory_format=torch.contiguous_format)


class Textbook:
    """A training.Training by the textbook, for run.run: `step` is one iteration of Algorithm 1."""

    PARTS = ("generator", "critic", "generator_optimizer", "critic_optimizer")

    def __init__(self, options, data, device):
        torch.manual_seed(options["seed"])
        self.options, self.device = options, device
        self.iteration, self.seconds, self.core_seconds = 0, 0.0, 0.0
        self.generator = plain(networks.make_generator("conv", options["dim"])).to(device)
        self.critic = plain(networks.make_critic("conv", options["dim"], None)).to(device)
        self.generator_optimizer, self.critic_optimizer = (
            torch.optim.Adam(network.parameters(), options["learning_rate"], OBJECTIVES["wgan-gp"].betas)
            for network in (self.generator, self.critic))
        self.random = torch.Generator(device).manual_seed(options["seed"])
        self.order = torch.Generator()  # of the images, anew for every epoch: a restored run finds its place
        self.loader = DataLoader(
            data.train.numpy(), options["batch"], shuffle=True, drop_last=True, generator=self.order,
            collate_fn=lambda rows: torch.stack([to_tensor(image) * 2 - 1 for image in rows]))
        self.served, self.batches, self.losses = 0, None, {}

    def next_batch(self):
        epoch, place = divmod(self.served, len(self.loader))
        if place == 0 or self.batches is None:
            self.order.manual_seed(self.options["seed"] + 1000 * epoch)
            self.batches = iter(self.loader)
            for _ in range(place):
                next(self.batches)
        self.served += 1
        return next(self.batches).to(self.device)

    def noise(self, n):
        return torch.randn(n, networks.Z, generator=self.random, device=self.device)

    def step(self):
        began, core = time.monotonic(), time.process_time()
        self.generator.train()
        for _ in range(5):
            real = self.next_batch()
            fake = self.generator(self.noise(len(real))).detach()
            epsilon = torch.rand(len(real), 1, 1, 1, generator=self.random, device=self.device)
            mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
            gradient = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)[0]
            penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
            critic_loss = self.critic(fake).mean() - self.critic(real).mean() + LAMBDA * penalty
            self.critic_optimizer.zero_grad()
            critic_loss.backward()
            self.critic_optimizer.step()
        loss = -self.critic(self.generator(self.noise(len(real)))).mean()
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.losses = {"critic_loss": critic_loss.detach(), "generator_loss": loss.detach()}
        self.iteration += 1
        self.seconds += time.monotonic() - began
        self.core_seconds += time.process_time() - core

    def take_losses(self):
        """{name: value of the last iteration}."""
        return {name: value.item() for name, value in self.losses.items()}

    def validation_losses(self):
        return {}

    def ema_generator(self):
        """The generator itself, in evaluation mode."""
        return self.generator.eval()

    def state(self):
        return {"iteration": self.iteration, "seconds": self.seconds, "core_seconds": self.core_seconds,
                "served": self.served, "random": self.random.get_state(),
                **{part: getattr(self, part).state_dict() for part in self.PARTS}}

    def restore(self, state):
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
        self.random.set_state(state["random"])
        self.batches = None
        for name in ("iteration", "seconds", "core_seconds", "served"):
            setattr(self, name, state[name])
