"""The nouns that every room speaks in. No loop, socket, clock or dice of their own."""
