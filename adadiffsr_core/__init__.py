"""AdaDiffSR: each region of a picture gets only the diffusion steps it needs."""
