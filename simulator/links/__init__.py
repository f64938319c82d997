"""Floor 2: the device's road. Sockets live here."""
