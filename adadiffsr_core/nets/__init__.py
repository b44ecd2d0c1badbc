"""The networks: autoencoder and UNet."""
