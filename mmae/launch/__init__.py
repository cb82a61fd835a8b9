"""Starting ranks on one or several hosts: what `launchers/` needs beyond a few lines of shell.

Here: hostfiles, ssh and its check, quoting for remote shells, the environment that ranks get, and the DeepSpeed
command. Nothing here imports torch or deepspeed. Not here: what ranks do once they run (`mmae.distributed`).
Start with `multi_node.py`.
"""
