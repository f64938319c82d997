"""Floor 6: the only place where fleet, application, backend and checks meet."""
