"""`mmae runs`: many runs at once, and what may be removed of them.

Here: the list (`list_runs`) and the choice of what a run does not need any more (`prune`). Not here: how one run does
(`mmae.run.state`, `mmae.run.status`). Start with `list_runs.py`.
"""
