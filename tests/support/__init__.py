"""What tests import from one another: made-up data, commands and hosts to run on, ways to look and to wait.

Not here: tests, and fixtures, which are in the `conftest.py` of the folder that needs them.
"""
