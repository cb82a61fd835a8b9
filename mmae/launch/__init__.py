"""Starting ranks on one or several hosts: the programs behind `launchers/`, whose scripts only call them.

Here: a program for each launcher (`single_node`, `multi_node`, `slurm`, `prebuild`), hostfiles, ssh and its check,
quoting for remote shells, and the environment that ranks get. Sub-package: `supervision` (a launch, from its start to
its end). Only `prebuild` imports torch or deepspeed. Not here: what ranks do once they run (`mmae.distributed`). Start
with `single_node.py`, then `supervision/supervise.py`.
"""
