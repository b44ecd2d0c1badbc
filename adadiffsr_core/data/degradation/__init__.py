"""Real-ESRGAN's degradation, photograph by photograph and in batches on a device."""
