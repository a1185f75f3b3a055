"""One training run as an object: the loop of Algorithm 1 (Gulrajani et al. 2017) for every objective of objectives.py,
and the judge that measures a generator with the shipped classifier. train.py drives it.
"""

import functools
import time

import torch
from torch.optim.swa_utils import AveragedModel, update_bn

import classifier
import images
import measures
import networks
from objectives import OBJECTIVES, clip_weights

AVERAGE = 0.999  # decay of the exponential moving average of the generator, from some 9,000 iterations on [3]
NORM_IMAGES = 4096  # generated ones, for the batch norm statistics of that average
HELD_OUT_BATCHES = 40  # of held-out images for the held-out critic cost
LOSSES = ("generator_loss", "critic_loss", "wasserstein", "penalty")


class Training:
    """Networks, optimizers and randomness of one run; `step` is one iteration of Algorithm 1.

    `pixels` and `held_out` are uint8 (n, 28, 28). `options` is the dict of options.json: objective, arch, dim, batch,
    iterations, learning_rate, seed, precision ('float32' or 'bfloat16'). Where they apply, also: generator_learning_rate; start,
    the iterations before a run that continues another, and critic_alone, for how many the generator then stands still;
    penalty_images, on how many of a batch the gradient penalty is taken, and beta1, Adam's, where not the objective's; of
    stability.py generator_arch, generator_variant, critic_norm and critic_variant, where they differ from the objective's.
    """

    PARTS = ("generator", "critic", "average", "generator_optimizer", "critic_optimizer")  # of a checkpoint

    def __init__(self, options, pixels, held_out, device):
        self.options, self.device = options, device
        self.pixels, self.held_out = pixels.to(device), held_out.to(device)
        self.objective = OBJECTIVES[options["objective"]]
        torch.manual_seed(options["seed"])
        self.generator = networks.make_generator(options.get("generator_arch", options["arch"]), options["dim"],
                                                 **options.get("generator_variant", {})).to(device)
        self.critic = networks.make_critic(options["arch"], options["dim"],
                                           options.get("critic_norm", self.objective.critic_norm),
                                           **options.get("critic_variant", {})).to(device)
        self.average = AveragedModel(self.generator, multi_avg_fn=move_average)
        self.rate = options["learning_rate"]
        self.generator_rate = options.get("generator_learning_rate", self.rate)
        self.generator_optimizer = self.make_optimizer(self.generator, self.generator_rate)
        self.critic_optimizer = self.make_optimizer(self.critic, self.rate)
        self.random = torch.Generator(device).manual_seed(options["seed"])
        self.iteration = 0
        self.seconds = 0.0
        self.sums, self.summed = torch.zeros(len(LOSSES), device=device), 0

    def make_optimizer(self, network, rate):
        betas = self.objective.betas
        if betas is None:
            return torch.optim.RMSprop(network.parameters(), rate)
        beta1 = self.options.get("beta1", betas[0])
        return torch.optim.Adam(network.parameters(), rate, (beta1, betas[1]), fused=True)

    def lower_precision(self):
        # Without the cache: a cast made under no_grad would be reused where a gradient is needed.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options["precision"] == "bfloat16",
                              cache_enabled=False)

    def noise(self, n):
        return torch.randn(n, networks.Z, generator=self.random, device=self.device)

    def step(self):
        """Critic steps, then one generator step (Algorithm 1). The losses are added to `sums`; nothing is waited for."""
        batch, steps = self.options["batch"], self.objective.critic_steps
        penalised = self.options.get("penalty_images", batch)  # [13]
        start = self.options.get("start", 0)
        left = 1 - (self.iteration - start) / (self.options["iterations"] - start)  # [5]
        alone = self.iteration - start < self.options.get("critic_alone", 0)  # [12]
        for optimizer, rate in ((self.critic_optimizer, self.rate), (self.generator_optimizer, self.generator_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * left
        self.generator.train()

        # All real and all generated batches of this iteration at once: one generator pass. [2]
        rows = torch.randint(len(self.pixels), (steps * batch,), generator=self.random, device=self.device)
        epsilon = torch.rand(steps * batch, 1, 1, 1, generator=self.random, device=self.device)
        real = images.to_float(self.pixels[rows])
        with torch.no_grad(), self.lower_precision():
            fake = self.generator(self.noise(steps * batch))
        for x, g, e in zip(real.split(batch), fake.split(batch), epsilon.split(batch)):
            with self.lower_precision():
                loss, parts = self.objective.critic_loss(self.critic, x, g, e[:penalised])
            self.critic_optimizer.zero_grad()
            loss.backward()
            self.critic_optimizer.step()
            if self.objective.clip:
                clip_weights(self.critic)
            self.add_losses(critic_loss=loss.detach() / steps, **{name: part / steps for name, part in parts.items()})

        self.critic.requires_grad_(False)  # its weight gradients are not needed here
        with self.lower_precision(), torch.set_grad_enabled(not alone):
            loss = self.objective.generator_loss(self.critic, self.generator(self.noise(batch)))
        if not alone:
            self.generator_optimizer.zero_grad()
            loss.backward()
            self.generator_optimizer.step()
        self.critic.requires_grad_(True)
        self.average.update_parameters(self.generator)
        self.add_losses(generator_loss=loss.detach())
        self.iteration += 1
        self.summed += 1

    def add_losses(self, **losses):
        for name, value in losses.items():
            self.sums[LOSSES.index(name)] += value

    def take_losses(self):
        """{name: mean since the last call}, without the parts that this objective does not have."""
        values = dict(zip(LOSSES, (self.sums / self.summed).tolist()))
        self.sums.zero_()
        self.summed = 0
        return {name: value for name, value in values.items() if name in (*LOSSES[:2], *self.objective.parts)}

    def held_out_losses(self):
        """The critic's cost on held-out images and generated ones, in training's batches, as gan_mnist.py logs it.

        The live generator's, not its average's: the critic is trained against that one.
        """
        batch, random = self.options["batch"], torch.Generator().manual_seed(self.options["seed"])
        n = batch * min(HELD_OUT_BATCHES, len(self.held_out) // batch)
        real = images.to_float(self.held_out[:n])
        epsilon = torch.rand(n, 1, 1, 1, generator=random).to(self.device)
        noise = torch.randn(n, networks.Z, generator=random).to(self.device)
        totals = {}
        with torch.no_grad(), self.lower_precision():
            for x, z, e in zip(real.split(batch), noise.split(batch), epsilon.split(batch)):
                loss, parts = self.objective.critic_loss(self.critic, x, self.generator(z), e)
                for name, value in {"critic_loss": loss, **parts}.items():
                    totals[name] = totals.get(name, 0) + value * batch / n
        return {f"held_out_{name}": value.item() for name, value in totals.items() if name != "penalty"}

    def shipping_generator(self):
        return shipping_generator(self.average, self.options["seed"], self.device)

    def state(self):
        """A plain dict of tensors, numbers and strings: all that `restore` needs to go on with the same bits."""
        return {"options": self.options, "iteration": self.iteration, "seconds": self.seconds, "sums": self.sums,
                "summed": self.summed, "random": self.random.get_state(),
                **{part: getattr(self, part).state_dict() for part in self.PARTS}}

    def restore(self, state):
        for part in self.PARTS:
            getattr(self, part).load_state_dict(state[part])
        self.random.set_state(state["random"])
        self.sums.copy_(state["sums"])
        self.iteration, self.seconds, self.summed = state["iteration"], state["seconds"], state["summed"]


def pick_precision(name, device):
    """'bfloat16' or 'float32' itself; for 'auto' what this device computes faster."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if cpu_is_faster_in_bfloat16() else "float32"


@functools.cache
def cpu_is_faster_in_bfloat16():
    """Measured, where the instructions exist: a Xeon with avx512_bf16 but without AMX has them and is slower with them."""
    checks = (getattr(torch.cpu, check, lambda: False) for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    if not any(check() for check in checks):
        return False  # emulated, far slower

    def seconds(matrix):
        began = time.perf_counter()
        matrix @ matrix
        return time.perf_counter() - began

    matrices = [torch.ones(512, 512, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    times = [[seconds(matrix) for matrix in matrices] for _ in range(25)]  # in turns: other work on the machine meets both
    lower, full = map(min, zip(*times))
    return lower < full


@torch.no_grad()
def move_average(averaged, current, n):
    """One step of the exponential moving average, in place. Early on it forgets faster, over the last tenth or so of the `n`
    iterations: with 0.999 a thousand of them would still be a third the untrained generator."""
    decay = min(AVERAGE, (1 + n.item()) / (10 + n.item()))  # n is on the CPU: nothing waits
    torch._foreach_lerp_(averaged, current, 1 - decay)


def shipping_generator(average, seed, device):
    """The averaged generator in evaluation mode, with batch norm statistics of its own. [3]"""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        update_bn([torch.randn(512, networks.Z, generator=random) for _ in range(NORM_IMAGES // 512)], average.module, device)
    return average.module.eval()


class Judge:
    """Frechet distance and class shares of a generator's images, against the held-out images, with the shipped classifier."""

    def __init__(self, weights_dir, pixels, held_out, device):
        self.network, self.device = classifier.load(weights_dir, device), device
        self.real = classifier.judge(self.network, held_out)[0]
        # Real against real: as many training images as there are held-out ones.
        self.floor = measures.frechet_distance(classifier.judge(self.network, pixels[:len(held_out)])[0], self.real)

    def __call__(self, generator, seed):
        pixels = measures.sample(generator, measures.SAMPLES, seed, self.device)
        features, labels, _ = classifier.judge(self.network, pixels)
        return measures.frechet_distance(features, self.real), measures.class_shares(labels)
