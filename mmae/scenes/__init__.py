"""Whole scenes and shard sets through a trained model: `mmae embed` and `mmae predict`.

A scene is read window by window, and what overlapping windows say is blended into one raster. Start with
`windows/scene_pass.py` (windows to finished rows), then `embed.py` (the whole way of a command). Not here: single tiles
in Python (`mmae.features`), and pictures of a run's reconstructions (`mmae.evaluate`).

Shape letters beside those of `mmae.types`: R C rows and columns of a raster, in cells; a patch has one or more cells a
side.
"""
