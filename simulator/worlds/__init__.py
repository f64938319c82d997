"""The only place where fleet, application, backend and checks meet."""
