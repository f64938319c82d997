"""The device's road. Sockets live here."""
