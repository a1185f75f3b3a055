"""One training as an object: Algorithm 1 of Gulrajani et al. 2017 for every objective of objectives.py.

run.py drives it. Numbers in brackets are the deviations listed in README.md.
"""

import time

import torch
from torch.optim.swa_utils import AveragedModel, update_bn

from . import networks
from .objectives import OBJECTIVES, clip_weights

BATCH = 64  # Algorithm 1
EMA = 0.999  # of the generator's average, from some 9,000 iterations on [3]
NORM_IMAGES = 4096  # generated ones, for the batch norm statistics of the EMA generator
VALIDATION_BATCHES = 40  # for the critic's cost on validation images
LOSSES = ("generator_loss", "critic_loss", "wasserstein", "penalty")
MODELS = {"dcgan": "dcgan", "wgan": "wgan-gp", "wgan-clip": "wgan-clip"}  # objectives by what a user calls them
SHORT = {  # for an hour or so of two CPU cores: the search's (tuning.json), at equal compute [4], [12], [13]
    "dcgan": {"dim": 32, "iterations": 30_000, "learning_rate": 3.5e-3, "generator_learning_rate": 2.4e-3,
              "beta1": 0.5},
    "wgan-gp": {"dim": 32, "iterations": 25_000, "learning_rate": 1.5e-3, "generator_learning_rate": 7.4e-3,
                "beta1": 0.0, "critic_steps": 1, "penalty_images": 32},
    "wgan-clip": {"dim": 32, "iterations": 9_400, "learning_rate": 8.3e-4, "generator_learning_rate": 9.1e-3,
                  "critic_steps": 5},
}
PAPER = {
    # Radford et al. 2016, section 4: Adam 2e-4, 0.5
    "dcgan": {"dim": 128, "iterations": 200_000, "learning_rate": 2e-4, "beta1": 0.5},
    # gan_cifar.py: D = 128, Adam 1e-4, 0.5; we take the 2e-4 that appendix F decays linearly to 0 [4]; Algorithm 1
    "wgan-gp": {"dim": 128, "iterations": 200_000, "learning_rate": 2e-4, "beta1": 0.5, "critic_steps": 5,
                "penalty_images": BATCH},
    # Arjovsky et al. 2017, Algorithm 1: RMSProp 5e-5
    "wgan-clip": {"dim": 128, "iterations": 200_000, "learning_rate": 5e-5, "critic_steps": 5},
}


def defaults(objective, paper=False, dim=None):
    """The options of PAPER or SHORT. SHORT's rates were chosen at its width; above that they fall as 1 / D [4]."""
    usual = dict((PAPER if paper else SHORT)[objective])
    if dim and not paper:
        for key in ("learning_rate", "generator_learning_rate"):
            usual[key] *= min(1, usual["dim"] / dim)
    return usual


class Training:
    """Networks, optimizers and randomness of one run; `step` is one iteration of Algorithm 1.

    data: images.Images. options: the dict of options.json, with objective, arch, dim, batch, iterations, learning_rate
    (the critic's), seed, precision ('float32' or 'bfloat16'). Where they apply, also: generator_learning_rate; beta1,
    Adam's, and critic_steps, if not the objective's; penalty_images, on how many of a batch the gradient penalty is
    taken; and for stability.py generator_arch, generator_variant, critic_norm and critic_variant.
    """

    PARTS = ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")  # of a checkpoint

    def __init__(self, options, data, device):
        self.options, self.device = options, device
        self.pixels, self.validation = data.train.to(device), data.validation.to(device)
        self.objective = OBJECTIVES[options["objective"]]
        torch.manual_seed(options["seed"])
        self.generator = networks.make_generator(options.get("generator_arch", options["arch"]), options["dim"],
                                                 **options.get("generator_variant", {})).to(device)
        self.critic = networks.make_critic(options["arch"], options["dim"],
                                           options.get("critic_norm", self.objective.critic_norm),
                                           **options.get("critic_variant", {})).to(device)
        self.average = AveragedModel(self.generator, multi_avg_fn=lambda averaged, current, _: move_average(
            averaged, current, self.iteration))  # its own count is on the GPU, where reading it waits
        self.critic_rate = options["learning_rate"]
        self.generator_rate = options.get("generator_learning_rate", self.critic_rate)
        self.generator_optimizer = self.make_optimizer(self.generator, self.generator_rate)
        self.critic_optimizer = self.make_optimizer(self.critic, self.critic_rate)
        self.random = torch.Generator(device).manual_seed(options["seed"])
        self.critic_steps = options.get("critic_steps", self.objective.critic_steps)  # of an iteration [13]
        self.iteration, self.seconds, self.core_seconds = 0, 0.0, 0.0  # of the generator; spent in `step`
        self.sums, self.summed = torch.zeros(len(LOSSES), device=device), 0

    def make_optimizer(self, network, rate):
        betas = self.objective.betas
        if betas is None:
            return torch.optim.RMSprop(network.parameters(), rate)
        betas = self.options.get("beta1", betas[0]), betas[1]
        return torch.optim.Adam(network.parameters(), rate, betas, fused=self.device.type != "mps")

    def lower_precision(self):
        # Without the cache: a cast made under no_grad would be reused where a gradient is needed.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options["precision"] == "bfloat16",
                              cache_enabled=False)

    def noise(self, n):
        return torch.randn(n, networks.Z, generator=self.random, device=self.device)

    def step(self):
        """One iteration; comments give the lines of Algorithm 1. Losses are added to `sums`, nothing is waited for."""
        began, core = time.monotonic(), time.process_time()
        batch, critic_steps = self.options["batch"], self.critic_steps
        left = 1 - self.iteration / self.options["iterations"]  # the learning rates fall linearly to 0 [5]
        for optimizer, rate in ((self.critic_optimizer, self.critic_rate),
                                (self.generator_optimizer, self.generator_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * left
        self.generator.train()

        # Line 4 for all critic steps of this iteration at once, and line 5 in one generator pass. [2]
        rows = torch.randint(len(self.pixels), (critic_steps * batch,), generator=self.random, device=self.device)
        epsilon = torch.rand(critic_steps * batch, 1, 1, 1, generator=self.random, device=self.device)
        real = networks.to_float(self.pixels[rows])
        with torch.no_grad(), self.lower_precision():
            fake = self.generator(self.noise(critic_steps * batch))
        penalised = self.options.get("penalty_images", batch)  # [12]
        for x, g, e in zip(real.split(batch), fake.split(batch), epsilon.split(batch)):  # line 2
            with self.lower_precision():  # lines 6 and 7
                loss, parts = self.objective.critic_loss(self.critic, x, g, e[:penalised])
            self.critic_optimizer.zero_grad()
            loss.backward()
            self.critic_optimizer.step()  # line 9
            if self.objective.clip:
                clip_weights(self.critic)
            self.add_losses(critic_loss=loss.detach() / critic_steps,
                            **{name: part / critic_steps for name, part in parts.items()})

        self.critic.requires_grad_(False)  # its weight gradients are not needed here
        with self.lower_precision():  # lines 11 and 12
            loss = self.objective.generator_loss(self.critic, self.generator(self.noise(batch)))
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.critic.requires_grad_(True)
        self.average.update_parameters(self.generator)
        self.add_losses(generator_loss=loss.detach())
        self.count(began, core)

    def count(self, began, core):
        self.iteration += 1
        self.summed += 1
        self.seconds += time.monotonic() - began
        self.core_seconds += time.process_time() - core

    def add_losses(self, **losses):
        for name, value in losses.items():
            self.sums[LOSSES.index(name)] += value

    def take_losses(self):
        """{name: mean since the last call}, of the losses that this objective has."""
        values = dict(zip(LOSSES, (self.sums / self.summed).tolist()))
        self.sums.zero_()
        self.summed = 0
        return {name: value for name, value in values.items() if name in (*LOSSES[:2], *self.objective.parts)}

    def validation_losses(self):
        """The critic's cost on validation images and generated ones, in training's batches, as gan_mnist.py logs it.

        The live generator's, not its average's: the critic is trained against that one.
        """
        batch, random = self.options["batch"], torch.Generator().manual_seed(self.options["seed"])
        n = batch * min(VALIDATION_BATCHES, len(self.validation) // batch)
        real = networks.to_float(self.validation[:n])
        epsilon = torch.rand(n, 1, 1, 1, generator=random).to(self.device)
        noise = torch.randn(n, networks.Z, generator=random).to(self.device)
        totals = {}
        with torch.no_grad(), self.lower_precision():
            for x, z, e in zip(real.split(batch), noise.split(batch), epsilon.split(batch)):
                loss, parts = self.objective.critic_loss(self.critic, x, self.generator(z), e)
                for name, value in {"critic_loss": loss, **parts}.items():
                    totals[name] = totals.get(name, 0) + value * batch / n
        return {f"validation_{name}": value.item() for name, value in totals.items() if name != "penalty"}

    def ema_generator(self):
        """The averaged generator in evaluation mode, with batch norm statistics of its own. [3]"""
        random = torch.Generator().manual_seed(self.options["seed"])
        with torch.no_grad():
            noise = [torch.randn(512, networks.Z, generator=random) for _ in range(NORM_IMAGES // 512)]
            update_bn(noise, self.average.module, self.device)
        return self.average.module.eval()

    def state(self):
        """A plain dict of tensors, numbers and strings: all that `restore` needs to go on with the same bits."""
        return {"iteration": self.iteration, "seconds": self.seconds, "core_seconds": self.core_seconds,
                "sums": self.sums, "summed": self.summed, "random": self.random.get_state(),
                **{part: getattr(self, part).state_dict() for part in self.PARTS}}

    def restore(self, state):
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
        self.random.set_state(state["random"])
        self.sums.copy_(state["sums"])
        for name in ("iteration", "seconds", "core_seconds", "summed"):
            setattr(self, name, state[name])


@torch.no_grad()
def move_average(averaged, current, n):
    """One step of the exponential moving average, in place; n is the number of steps so far.

    Early on it forgets faster, over the last tenth or so of the n iterations: with 0.999 a thousand of them would still
    be a third the untrained generator.
    """
    decay = min(EMA, (1 + n) / (10 + n))
    torch._foreach_lerp_(averaged, current, 1 - decay)
