"""DeepSpeed JSONs, found by name after installation (`mmae.resources`)."""
