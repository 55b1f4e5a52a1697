"""
Decode with an autoencoder that is not ours: a torch module of someone else, in tiles, exactly, and as a stream.

    python examples/embed_any_decoder.py

The decoder here is a small convolutional network with seeded weights, in the place of yours. Nothing of it is known to
tilekit but its axes: 8 pixels a latent in height and width.
"""

import torch

import tilekit as tk


def make_decoder() -> torch.nn.Module:
    """Three upsamplings by 2 with convolutions between; no normalisation over the whole."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(4, 16, 3, padding=1)]
    for _ in range(3):
        layers += [torch.nn.SiLU(), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(16, 16, 3, padding=1)]
    return torch.nn.Sequential(*layers, torch.nn.Conv2d(16, 3, 3, padding=1)).requires_grad_(False)


def main() -> None:
    """Compare blended and cropped tiles with the whole."""
    decoder = make_decoder()
    latents = torch.randn(1, 4, 48, 64, generator=torch.Generator().manual_seed(1))
    whole = decoder(latents)

    tiling = tk.Tiling(height=(192, 32), width=(256, 32))
    print(tk.plan(latents.shape, tiling, geometry=tk.SD_IMAGE))

    blended = tk.decode_tiled(decoder, latents, tiling, geometry=tk.SD_IMAGE, tile_batch_size=4)
    print(f"blended: largest difference from the whole {float((blended - whole).abs().max()):.1e}")

    halo = tk.measure_halo(decoder, (1, 4, 12, 12), geometry=tk.SD_IMAGE)
    print(f"measured reach in latents: {halo}")
    cropped = tk.decode_tiled(decoder, latents, tiling, geometry=tk.SD_IMAGE, blend="crop", halo=halo)
    print(f"cropped: largest difference from the whole {float((cropped - whole).abs().max()):.1e}")

    for start, rows in tk.stream_tiled(decoder, latents, tiling, geometry=tk.SD_IMAGE, blend="crop", halo=halo):
        print(f"rows {start} to {start + rows.shape[2] - 1} are finished")


if __name__ == "__main__":
    main()
