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
from ..objectives import LAMBDA, double_backward
from ..training import Training

SETTINGS = {"learning_rate": 1e-4}


def plain(network):
    """The network with torch's own transposed convolutions and the default memory format."""
    for module in network.modules():
        if isinstance(module, networks.Up):
            module.forward = torch.nn.ConvTranspose2d.forward.__get__(module)
    return network.to(memory_format=torch.contiguous_format)


class Textbook(Training):
    PARTS = ("generator", "critic", "generator_optimizer", "critic_optimizer")

    def __init__(self, options, data, device):
        super().__init__({**options, "objective": "wgan-gp"}, data, device)
        self.options = options
        plain(self.generator)
        plain(self.critic)
        self.order = torch.Generator()  # of the images, anew for every epoch: a restored run finds its place
        self.loader = DataLoader(
            data.train.numpy(), options["batch"], shuffle=True, drop_last=True, generator=self.order,
            collate_fn=lambda rows: torch.stack([to_tensor(image) * 2 - 1 for image in rows]))
        self.batches = None

    def make_optimizer(self, network, rate):
        return torch.optim.Adam(network.parameters(), rate, self.objective.betas)

    def next_batch(self, number):
        """Batch `number`, counted from the first iteration on."""
        epoch, place = divmod(number, len(self.loader))
        if place == 0 or self.batches is None:
            self.order.manual_seed(self.options["seed"] + 1000 * epoch)
            self.batches = iter(self.loader)
            for _ in range(place):
                next(self.batches)
        return next(self.batches).to(self.device)

    def step(self):
        began, core = time.monotonic(), time.process_time()
        self.generator.train()
        for number in range(self.critic_steps):
            real = self.next_batch(self.critic_steps * self.iteration + number)
            fake = self.generator(self.noise(len(real))).detach()
            epsilon = torch.rand(len(real), 1, 1, 1, generator=self.random, device=self.device)
            gradient = double_backward(self.critic, epsilon * real + (1 - epsilon) * fake)
            penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
            critic_loss = self.critic(fake).mean() - self.critic(real).mean() + LAMBDA * penalty
            self.critic_optimizer.zero_grad()
            critic_loss.backward()
            self.critic_optimizer.step()
        loss = -self.critic(self.generator(self.noise(len(real)))).mean()
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.add_losses(critic_loss=critic_loss.detach(), generator_loss=loss.detach())
        self.count(began, core)

    def validation_losses(self):
        return {}

    def ema_generator(self):
        """The generator itself, in evaluation mode."""
        return self.generator.eval()
