"""Features of images: raw pixels, principal components, and M1's posterior means. None of them sees a label.

[7]: README.md's deviations from the paper.
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from .command import ROOT
from .vae import load_vae

VAES = {"M1 (Bernoulli)": "bernoulli", "M1": "gaussian"}  # likelihoods by the name of the features
NAMES = ("raw pixels", "PCA-50", *VAES)


def base(name):
    """The features that an ablation varies: "M1" for "M1, no distortion"."""
    return "raw pixels" if name == "binarised pixels" else name.split(",")[0]


@torch.no_grad()
def posterior(model, images, batch=5000):
    """q(z|x) of uint8 images (n, 28, 28): means and standard deviations, float32 tensors (n, 50) on the CPU."""
    device = next(model.parameters()).device
    parts = [model.posterior(x.flatten(1).to(device).float() / 255) for x in images.split(batch)]
    means, log_variances = (torch.cat([part[i].cpu() for part in parts]) for i in range(2))
    return means, torch.exp(0.5 * log_variances)


def posterior_means(model, images):
    """The features of M1 [7]: mu_phi(x) of uint8 images (n, 28, 28), as float32 numpy (n, 50)."""
    return posterior(model, images)[0].numpy()


def raw_pixels(images):
    """uint8 (n, 28, 28) -> float32 numpy (n, 784) in [0, 1]."""
    return images.flatten(1).numpy().astype(np.float32) / 255


def feature_map(name, dataset, images, weights_dir):
    """The map from uint8 images (n, 28, 28) to float32 numpy features (n, d). PCA is of the training images."""
    if name == "raw pixels":
        return raw_pixels
    if name == "PCA-50":
        pca = PCA(50, svd_solver="covariance_eigh").fit(raw_pixels(images.train))
        return lambda images: pca.transform(raw_pixels(images)).astype(np.float32)
    model, _ = load_vae(weights_dir, dataset, VAES[name])
    return lambda images: posterior_means(model, images)


def features(images, dataset="fashion", likelihood="gaussian", weights_dir=ROOT / "weights"):
    """M1's features of images of your own: (n, 28, 28) uint8, numpy or torch -> float32 numpy (n, 50).

    dataset: which shipped VAE, 'fashion' or 'mnist', or a set of your own that has been trained. Raises ValueError for
    other shapes or types, command.UserError where the weights are missing or damaged.
    """
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must be uint8 of shape (n, 28, 28), not {images.dtype} of {tuple(images.shape)}")
    return posterior_means(load_vae(Path(weights_dir), dataset, likelihood)[0], images)
