"""Whole, blended and exact decodes of the same latents: what each takes, and where they differ."""
