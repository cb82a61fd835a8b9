"""Launch scripts, found by name after installation (`mmae.config.packaged_files`)."""
