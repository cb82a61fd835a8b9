"""DeepSpeed JSONs, found by name after installation (`mmae.config.packaged_files`).

A file here can be named at once. Which keys it may hold is in `mmae/config/deepspeed_schema.py`; `mmae plan` considers
those that `mmae/plan/lines.py` lists.
"""
