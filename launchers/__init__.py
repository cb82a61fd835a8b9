"""Launch scripts, found by name after installation (`mmae.resources`)."""
