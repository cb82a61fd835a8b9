"""A pretrained model made ready to learn a task: other bands, sizes and patches, LoRA, a head.

Start with `build_finetuned.py`. The fine-tuned model itself and its folder are in `mmae.model.tuned` and
`mmae.model.saved`, where commands that only use one find them.
"""
