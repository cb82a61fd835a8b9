"""Fine-tuned models: what they predict (`task.py`), and the model, an encoder with a head (`finetuned_model.py`).

Their folders are those of `mmae.model.saved`, with the key `finetuned` in config.json. Not here: how one is built from
a pretrained model, and its training (`mmae.finetune`).
"""
