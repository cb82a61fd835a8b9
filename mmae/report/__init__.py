"""Pages about runs and shard sets: one self-contained HTML file each.

Here: what a run's folder tells (`history`, `run_facts`), its figures and tables, and `mmae report`; `shards/` is
`mmae data-report`; `page/` is the kit of both: markup, charts, maps, style. `listing/` is `mmae runs`. Nothing here
imports torch or reads weights. Not here: pictures of reconstructions (`mmae.evaluate.pictures`). Start with
`command.py`.
"""
