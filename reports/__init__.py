"""Reports: a trace, drawn for people."""
