"""`mmae doctor`: checks for everything that would stop a training on this machine, or on all hosts of a hostfile.

Here: the command and its report. Sub-packages: `agent` (runs on a host and answers questions), `hosts` (asks all
hosts), `checks` (judges the answers), `bandwidth` (the network between hosts). Not here: starting a training
(`mmae.launch`).
Start with `command.py`, then `hosts/survey.py`.
"""
