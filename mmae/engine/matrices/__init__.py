"""Muon (`train.optimizer=muon`): which parameters it trains, its step, and where a rank has their numbers.

Start with `muon.py`. What asks DeepSpeed for the places of numbers is in `mmae/engine/build.py`.
"""
