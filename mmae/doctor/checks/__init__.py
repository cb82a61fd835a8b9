"""What hosts' answers mean: pure functions from facts to findings.

Here: software, network and storage. Not here: asking hosts (`mmae.doctor.hosts`). Start with `findings.py`.
"""
