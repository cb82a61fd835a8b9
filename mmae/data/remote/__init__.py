"""Shards that lie elsewhere: fetched over http, from object stores or through a command, and cached.

Here: addresses, transports with their retries, downloads, the cache on this machine and what it evicts.
Not here: the meaning of a shard's bytes (`mmae.data.shards`). Start with `open_shards.py`, then `transport.py`.
A new transport is a module beside `http_transport.py`, and a scheme in `open_remote.py`.
"""
