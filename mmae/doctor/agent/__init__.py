"""The program that runs on each host and answers the doctor's questions.

Here: facts of the machine, its storage, and its connections. Not here: any verdict (`mmae.doctor.checks`), or ranks
(`mmae.doctor.bandwidth.rank`). Start with `agent.py`.
"""
