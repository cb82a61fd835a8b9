"""The program that runs on each host and answers the doctor's questions.

Here: facts of the machine, its storage, its connections, and the ranks of the network test. Not here: any verdict
(`mmae.doctor.checks`). Start with `agent.py`.
"""
