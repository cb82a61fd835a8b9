"""Programs that make, measure and check data sets on disk; one package for each activity.

Here: reading MMEarth's HDF5 file (`source`), packing it into shards (`repack`), band statistics (`stats`), checking and
repairing shards (`verify`), made-up data sets (`synth`), and the processes that share the work (`workers`).
Not here: reading shards for training, which is `mmae.data`. Nothing here imports a model or torch.
Start with `repack/command.py`, then `repack/pipeline.py`.
"""
