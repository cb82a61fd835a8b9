"""Folders that TerraTorch and torchgeo-bench load as plug-ins. Their code lies in `mmae/publish/carried`."""
