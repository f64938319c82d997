"""Floor 5: the embedded reference backend; it knows nothing of device, fleet, faults or checks."""
