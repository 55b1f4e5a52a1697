"""Tiled and exact decoding through an autoencoder, for any array library."""
