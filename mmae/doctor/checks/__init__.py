"""What hosts' answers mean: pure functions from facts to findings.

Here: software, network and storage. Not here: asking hosts (`mmae.doctor.hosts`). Start with `findings.py`.
The order in which checks are reported, and so the place to call a new one, is `mmae/doctor/host_report.py`.
"""
