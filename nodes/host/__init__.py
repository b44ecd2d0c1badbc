"""All that touches ComfyUI's internals. When a host changes, this is where it shows, and nowhere else."""
