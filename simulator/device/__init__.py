"""One virtual device, and many of them."""
