"""What is said on the wire, without any I/O. A dialect is a package with a module for each side; registry.py names them all."""
