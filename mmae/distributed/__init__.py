"""How ranks find one another, agree, and notice that one is lost.

Here: the process group, collectives on small values, the preflight before ranks meet, the watchdog while they train,
and the network interface that they use. Rules are pure functions apart from the I/O (`preflight_rules`,
`watchdog_rules`). Not here: starting ranks (`mmae.launch`). Start with `process_group.py`.
"""
