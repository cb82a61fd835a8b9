"""Asking hosts: a session with the agent on each, and the survey of all.

Not here: what runs on a host (`mmae.doctor.agent`), or what its answers mean (`mmae.doctor.checks`).
Start with `survey.py`, then `session.py`.
"""
