"""`mmae doctor`: what stands in a run's way on this machine, or on all hosts of a hostfile.

Here: the command and its report. Rooms: `agent` (runs on a host and answers), `hosts` (asks all hosts), `checks`
(what answers mean), `bandwidth` (the network between hosts). Not here: starting a training (`mmae.launch`).
Start with `command.py`, then `hosts/survey.py`.
"""
