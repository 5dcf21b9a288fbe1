"""Sparse autoencoder: the features of a layer that are active in forget rows are scaled, no weight is changed."""

from typing import ClassVar

from unlearning.mechanisms import steered
from unlearning.mechanisms.steered import Steered
from unlearning.trainer import Option


class SAE(Steered):
    """No training: h_L ← h_L + (s − 1) Σ_f z_f d_f over the features f of a sparse autoencoder of h_L that are ρ times as active before answers to F as to R, the K most active of them."""

    name = "sae"
    options: ClassVar = {
        "sae": Option("", "folder of `remem sae train`; none: one is trained on forget and retain rows"),
        "sae_layer": Option(-1, "layer L of one that is trained, from 0; -1: in the middle of the depth"),
        "sae_width": Option(8, "its features, in multiples of the states' width"),
        "sae_active": Option(16, "features that are on in a state while it is trained, on the average"),
        "sae_steps": Option(500, "steps of its training"),
        "sae_states": Option(50000, "states it is trained on, at most"),
        "sae_rows": Option(256, "rows of each kind that are looked at, spread evenly; 0: all"),
        "sae_features": Option(128, "K, features that are scaled at most"),
        "sae_ratio": Option(4.0, "ρ"),
        "sae_scale": Option(0.0, "s, what is left of them; below 0: turned round"),
    }
    grid: ClassVar = {"sae_ratio": (4.0, 2.0, 1.2), "sae_scale": (0.0, -2.0)}
    source = "our reading of SAUCE (arXiv 2503.14530), whose paper was withdrawn and has no code"
    fidelity = "our reading"
    upstream = "The autoencoder is BatchTopK; what it does not explain stays. Scored by remem_hf alone, which applies `steering.safetensors` beside the weights; other loaders find no weights."

    def finish(self):
        self.steer(*steered.by_autoencoder(self.forward, self.rows, self.encoder, self.args, self.start))
