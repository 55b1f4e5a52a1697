"""
The left half of tilekit: integers alone, no array library. `tilekit._run` reads what is made here.

Each module imports only those above it:

    spans       Span, and the ways to cut one axis
    laws        Linear, Causal: how latents map to pixels, frames or samples
    geometry    Axis, Geometry: the axes of an autoencoder
    presets     geometries of published autoencoders
    weights     blending weights of one axis, normalised
    layout      Tile, Layout: where the tiles lie
    boxes       where the pieces of one tile's result go
    schedule    which tiles share a call, and in which order
    forecast    bytes held at once
    table, plot a layout as text and as a picture
    cut         AxisTiling, and the spans it asks for
    fit         the cheapest tiling for a budget
    tiling      Tiling
    config      TilingConfig, by pixels and frames
    plan        Plan, plan()
"""
