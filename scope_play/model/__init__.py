"""The networks, and nothing else: no files, no devices chosen, no threads."""
