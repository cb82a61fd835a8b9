"""Modules that an export copies beside its weights. They run in other tools' environments, without this project.

They import one another, torch, timm, safetensors and the tool that loads them, and nothing else of `mmae`. In a copy
the name of their package is another (`mmae/publish/plugins/plugin_folder.py`).
"""
