"""From shards to the model's inputs.

Sub-packages: `shards` (the format on disk), `label_files` (files of labels that people write), `remote` (fetching and
caching shards), `sampling` (which tiles, in what order), `loading` (from worker processes to the device), `transforms`
(integers to model inputs), `checks` (before a start).
Not here: writing shards (`data_tools.repack`). A tile's way begins in `loading/loader.py`; the format is in
`shards/index.py` and `shards/codec.py`.
"""
