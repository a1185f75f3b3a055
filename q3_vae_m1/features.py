"""Features of images: raw pixels, principal components, and M1's posterior means. None of them sees a label.

Also what one calls from Python: `features`, `decode`, `sample`, `reconstruct`. [7]: README.md's deviations.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from . import files, vae
from .command import ROOT, UserError
from .images import SPELLINGS

VAES = {"M1 (Bernoulli)": "bernoulli", "M1": "gaussian"}  # likelihoods by the name of the features
NAMES = ("raw pixels", "PCA-50", *VAES)


def shipped(dataset, likelihood="gaussian"):
    """The folder of the VAE that ships, which a data set of the user's own does not have."""
    return ROOT / "weights" / f"q3_{dataset}{'' if likelihood == 'gaussian' else '_' + likelihood}"


def flat(images):
    """Images, uint8 (n, 28, 28) or pixels already: float tensor (n, 784) in [0, 1]."""
    return images if images.is_floating_point() else images.flatten(1).float() / 255


@torch.no_grad()
def posterior(model, images, batch=5000):
    """q(z|x) of images as `flat` takes them: means and standard deviations, float32 tensors (n, 50) on the CPU."""
    device = next(model.parameters()).device
    parts = [model.posterior(flat(x.to(device))) for x in images.split(batch)]
    means, log_variances = (torch.cat([part[i].cpu() for part in parts]) for i in range(2))
    return means, torch.exp(0.5 * log_variances)


def posterior_means(model, images):
    """The features of M1 [7]: mu_phi(x) as float32 numpy (n, 50)."""
    return posterior(model, images)[0].numpy()


def encoder(name, train=None, model=None):
    """The map from images to the features of that name, float32 numpy (n, d). train: images for PCA. model: an M1."""
    if name == "raw pixels":
        return lambda images: flat(images).numpy()
    if name == "PCA-50":
        fitted = PCA(50, svd_solver="covariance_eigh").fit(flat(train).numpy())
        return lambda images: fitted.transform(flat(images).numpy()).astype(np.float32)
    return lambda images: posterior_means(model, images)


@torch.no_grad()
def decoded(model, z):
    """The mean of p(x|z) for z (n, 50): float32 (n, 784) in [0, 1] on the CPU."""
    return torch.sigmoid(model.decode(z.to(next(model.parameters()).device))).cpu()


# ---- from Python: every function takes the VAE of a run folder, or the one that ships for a data set ---------------

def network(dataset, run):
    if run is None and str(dataset).lower() not in SPELLINGS:
        raise UserError(f"no VAE ships for {dataset!r}: 'fashion' and 'mnist' have one; or give run=, a folder that "
                        "train.py wrote")
    return vae.load(shipped(SPELLINGS[dataset.lower()]) if run is None else Path(run).expanduser())[0]


def checked(images):
    images = torch.as_tensor(images, device="cpu")
    if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must be uint8 of shape (n, 28, 28), not {images.dtype} of {tuple(images.shape)}")
    return images


def grey(x):
    """(n, 784) in [0, 1] -> uint8 numpy (n, 28, 28)."""
    return (x.view(-1, 28, 28) * 255).round().byte().numpy()


def features(images, dataset="fashion", run=None):
    """M1's features of images of your own: uint8 (n, 28, 28), numpy or torch -> float32 numpy (n, 50).

    dataset: which of the VAEs that ship, 'fashion' or 'mnist'. run: a folder that train.py wrote, in place of these.
    Raises ValueError for other shapes or types, command.UserError where there is no such VAE.
    """
    with files.own_session():
        return posterior_means(network(dataset, run), checked(images))


def decode(z, dataset="fashion", run=None):
    """The decoder's mean images: z (n, 50), numpy or torch -> uint8 numpy (n, 28, 28)."""
    with files.own_session():
        return grey(decoded(network(dataset, run), torch.as_tensor(z, dtype=torch.float32, device="cpu")))


def sample(n, seed=0, dataset="fashion", run=None):
    """`n` images decoded from z ~ N(0, I): uint8 numpy (n, 28, 28). The Gaussian models' are poor: README.md."""
    with files.own_session():
        z = torch.randn(n, 50, generator=torch.Generator().manual_seed(seed))
        return grey(decoded(network(dataset, run), z))


def reconstruct(images, dataset="fashion", run=None):
    """Images decoded from their own posterior means: uint8 (n, 28, 28) -> uint8 numpy (n, 28, 28)."""
    with files.own_session():
        model = network(dataset, run)
        return grey(decoded(model, posterior(model, checked(images))[0]))
