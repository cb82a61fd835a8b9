"""Running a command that starts ranks, to its end: signals, restarts, exit statuses, and the first error.

Here: what is the same for every launcher, and ranks on this machine. Not here: ranks that are reached by ssh or Slurm
(`mmae.launch.ssh_ranks`, `mmae.launch.slurm`). Start with `supervise.py`.
"""
